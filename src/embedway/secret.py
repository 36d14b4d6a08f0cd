"""Text that must not be seen: credentials of providers, the key pepper."""

from __future__ import annotations

from typing import Any


class Secret:
    """A text whose `str`, `repr` and format are stars; `reveal()` is the one way to read it.

    It cannot be pickled or encoded as JSON, so that it reaches no log, error or file by accident.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that sends or derives from it."""
        return self._text

    def hint(self) -> str:
        """The last four characters behind dots; only dots if the text is short."""
        return "····" + (self._text[-4:] if len(self._text) >= 16 else "")

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be pickled or copied to a file")
