"""The fake's own books: what it would bill, to be held against the ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Line:
    """One request."""

    provider: str
    model: str
    texts: int
    tokens: int
    """What it counted, whatever a fault made it report; 0 if it refused."""
    characters: int
    """Without white space, as Google bills them."""
    status: int
    answered: bool
    """Whether the answer went out whole."""

    def lost(self) -> Line:
        """The same, when the answer did not go out whole: the work is billed all the same."""
        return replace(self, answered=False)


@dataclass
class Bill:
    """All requests, in the order of their answers."""

    lines: list[Line] = field(default_factory=list)

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, line: Line) -> None:
        """Write a line down."""
        self.lines.append(line)

    def replace(self, old: Line, new: Line) -> None:
        """Put *new* in the place of *old*, if that still stands here."""
        for place, line in enumerate(self.lines):
            if line is old:
                self.lines[place] = new

    def clear(self) -> None:
        """Start a new bill."""
        self.lines.clear()

    @property
    def texts(self) -> int:
        """Texts of all requests that were worked on."""
        return sum(line.texts for line in self.lines if line.tokens)

    @property
    def tokens(self) -> int:
        """Tokens of all requests, those whose answers were lost included: they were worked on."""
        return sum(line.tokens for line in self.lines)

    @property
    def characters(self) -> int:
        """Characters of all requests, likewise."""
        return sum(line.characters for line in self.lines)
