"""The first reading of the inputs: how much there is, and that all of it can be embedded."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice

from msgspec import Struct

from embedway.cli.corpus import Corpus
from embedway.cli.journal import DIGEST_BYTES, digest
from embedway.cli.readers import Row
from embedway.cli.stop import WRONG_USAGE, Stop

_INT64 = range(-(2**63), 2**63)


class Plan(Struct, frozen=True, kw_only=True):
    """What one reading found."""

    rows: int
    blank: int
    """Blank lines and files, passed over."""
    digests: bytes
    """The digest of each row's text, one after the other."""
    unique: frozenset[bytes]
    content: str
    """A digest of all ids and texts in order."""
    has_ids: bool
    has_number_ids: bool


def make_plan(corpus: Corpus) -> Plan:
    """Read everything once. Raises Stop for a row that cannot be embedded, or if there is none."""
    digests, content = bytearray(), blake2b(digest_size=16)
    ids = numbers = rows = 0
    for row in corpus.rows():
        name = digest(row.text)
        digests += name
        content.update(f"{row.id!r}\n".encode() + name)
        rows += 1
        ids += row.id is not None
        numbers += isinstance(row.id, int) and row.id in _INT64
    if not rows:
        raise Stop("nothing to embed: the input is empty", WRONG_USAGE)
    whole = bytes(digests)
    return Plan(
        rows=rows,
        blank=corpus.blank,
        digests=whole,
        unique=frozenset(whole[i : i + DIGEST_BYTES] for i in range(0, len(whole), DIGEST_BYTES)),
        content=content.hexdigest(),
        has_ids=ids > 0,
        has_number_ids=ids == numbers,
    )


def read_again(corpus: Corpus, plan: Plan) -> Iterator[tuple[Row, bytes]]:
    """The rows that were planned, with their digests; rows that were added to the input since
    then wait for the next run. Raises Stop if the planned ones are no longer there."""
    number = 0
    for number, row in enumerate(islice(corpus.rows(), plan.rows), 1):
        name = digest(row.text)
        if not plan.digests.startswith(name, (number - 1) * DIGEST_BYTES):
            number = -1
            break
        yield row, name
    if number != plan.rows:
        raise Stop("the input changed while it was read; run the same command again")
