"""How long texts are, as each tokenizer that is here counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from embedway.cli.journal import digest
from embedway.cli.readers import Row
from embedway.cli.stop import WRONG_USAGE, Stop
from embedway.tokens import estimate_tokens

CountTokens = Callable[[str], int]


class Lengths(Struct, frozen=True):
    """How many texts have how many tokens."""

    texts: Mapping[int, int]

    @property
    def tokens(self) -> int:
        """Of all texts."""
        return sum(tokens * texts for tokens, texts in self.texts.items())

    def longer_than(self, tokens: int) -> int:
        """How many texts have more tokens than that."""
        return sum(texts for length, texts in self.texts.items() if length > tokens)


class Measured(Struct, frozen=True, kw_only=True):
    """What one reading found."""

    rows: int
    unique: int
    """Different texts: each is embedded once, and only these are measured."""
    characters: int
    """Without white space, which nobody bills."""
    counted: Mapping[str, Lengths]
    """By tokenizer."""
    estimated: Lengths
    """For all models whose tokenizer is not here."""


def measure(rows: Iterable[Row], tokenizers: Mapping[str, CountTokens]) -> Measured:
    """Read everything once. Raises Stop if there is nothing.

    tokenizers: the catalogue's name of each that is here, with how it counts a text.
    """
    found = characters = 0
    seen: set[bytes] = set()
    counted: dict[str, Counter[int]] = {name: Counter() for name in tokenizers}
    estimated: Counter[int] = Counter()
    for row in rows:
        found += 1
        if (name := digest(row.text)) in seen:
            continue
        seen.add(name)
        characters += sum(not character.isspace() for character in row.text)
        estimated[estimate_tokens(row.text)] += 1
        for tokenizer, count in tokenizers.items():
            counted[tokenizer][count(row.text)] += 1
    if not found:
        raise Stop("nothing to embed: the input is empty", WRONG_USAGE)
    return Measured(
        rows=found,
        unique=len(seen),
        characters=characters,
        counted={tokenizer: Lengths(texts) for tokenizer, texts in counted.items()},
        estimated=Lengths(estimated),
    )
