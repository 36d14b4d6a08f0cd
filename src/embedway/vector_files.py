"""Kept vectors outside of their store, a row each, and from there back into a store.

A row says of a vector all that the store knows of it, and carries a digest of the whole. What was
changed or mixed up on the way is found out, since no text is there to embed it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated

import msgspec
import orjson
from msgspec import Meta, Struct
from msgspec.structs import asdict

from embedway.cached import KEY_BYTES, ORIGIN_BYTES, Cached, Key, Label, VectorStore, pack
from embedway.types import Vector
from embedway.vectors import fault, from_base64, to_base64

MEDIA_TYPE = "application/jsonl"
_CHECK_BYTES = 8
_AT_ONCE = 256
"""Vectors between two waits for the store: some MB, far from what it drops."""

Entry = tuple[Key, Label, Cached]
"""One kept vector, as a store lists it."""


def _hex(length: int, description: str) -> Meta:
    return Meta(pattern=f"^[0-9a-f]{{{2 * length}}}$", description=description)


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All about a kept vector but its numbers."""

    key: Annotated[str, _hex(KEY_BYTES, "A digest of all that decides the vector.")]
    model: str
    space: str
    project: Annotated[str, Meta(description="The scope that may read it.")]
    dimensions: Annotated[int, Meta(ge=1, le=2**31)]
    tokens: Annotated[int, Meta(ge=0, lt=2**32)]
    created_s: Annotated[int, Meta(ge=0, lt=2**62, description="Seconds since 1970, UTC.")]
    origin: Annotated[str, _hex(ORIGIN_BYTES, "A digest of the deployment that made it.")]
    flags: Annotated[tuple[str, ...], Meta(description="Those that hold, such as is_truncated.")]
    check: Annotated[str, _hex(_CHECK_BYTES, "A digest of all the others and the vector.")]


class KeptVector(Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row as a line of JSON has it."""

    vector: Annotated[str, Meta(description="Base64 of little-endian float32.")]


FLAGS = tuple(name for name in Cached.__struct_fields__ if name.startswith("is_"))


class Unsound(ValueError):
    """What was read is no kept vector as it was written. The message holds no data."""


class Restored(Struct, frozen=True):
    """What became of the rows."""

    stored: int
    expired: int
    """Older than the store keeps any."""
    lost: int
    """Not in the store, though they were put: it failed, or had no room."""


def make_row(entry: Entry) -> Row:
    """The row of a kept vector."""
    key, label, cached = entry
    return Row(
        key=key.hex(),
        model=label.model,
        space=label.space,
        project=label.project,
        dimensions=len(cached.vector) // 4,
        tokens=cached.tokens,
        created_s=cached.created_s,
        origin=cached.origin.hex(),
        flags=tuple(name for name in FLAGS if getattr(cached, name)),
        check=_check(entry),
    )


def make_entry(row: Row, vector: Vector) -> Entry:
    """The kept vector of a row. Raises Unsound if they are not what `make_row` was given."""
    if wrong := fault(vector, row.dimensions):
        raise Unsound(f"its vector {wrong}")
    if not _has_dimensions(row.space, row.dimensions):
        raise Unsound(f"its space is not one of {row.dimensions} dimensions")
    if not set(row.flags) <= set(FLAGS):
        raise Unsound(f"its flags are others than {', '.join(FLAGS)}")
    flags = {name: name in row.flags for name in FLAGS}
    cached = Cached(
        vector=vector,
        tokens=row.tokens,
        origin=bytes.fromhex(row.origin),
        created_s=row.created_s,
        **flags,
    )
    entry = (bytes.fromhex(row.key), Label(row.model, row.space, row.project), cached)
    if row.check != _check(entry):
        raise Unsound("its check is wrong: the row was changed since it was written")
    return entry


def write_line(entry: Entry) -> bytes:
    """A kept vector as a line of JSON."""
    row = asdict(make_row(entry))
    return orjson.dumps({**row, "vector": to_base64(entry[2].vector).decode()}) + b"\n"


def write_head(entry: Entry) -> bytes:
    """The same without the vector, which stands elsewhere."""
    return orjson.dumps(asdict(make_row(entry))) + b"\n"


_read_line = msgspec.json.Decoder(KeptVector).decode
_read_head = msgspec.json.Decoder(Row).decode


def read_line(line: bytes) -> Entry:
    """What `write_line` was given. Raises Unsound."""
    try:
        found = _read_line(line)
    except (ValueError, RecursionError) as error:
        raise Unsound(str(error)) from None
    try:
        vector = from_base64(found.vector)
    except ValueError:
        raise Unsound("its vector is no base64") from None
    return make_entry(found, vector)


def read_head(line: bytes, vector: Vector) -> Entry:
    """What `write_head` was given. Raises Unsound."""
    try:
        return make_entry(_read_head(line), vector)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unsound(str(error)) from None


async def restore(
    store: VectorStore,
    entries: Iterable[Entry],
    oldest_s: float,
    tell: Callable[[int], None] = lambda count: None,
) -> Restored:
    """Put them back, a part after the other, and *tell* how many were done.

    oldest_s: what was created then or earlier is too old to be kept.
    """
    iterator = iter(entries)
    rows = stored = expired = 0
    while part := list(islice(iterator, _AT_ONCE)):
        young = [entry for entry in part if entry[2].created_s > oldest_s]
        rows += len(part)
        expired += len(part) - len(young)
        stored += await _put(store, young)
        tell(len(part))
    return Restored(stored, expired, rows - expired - stored)


async def _put(store: VectorStore, entries: Sequence[Entry]) -> int:
    """How many of them the store has afterwards: to put says nothing about that."""
    labelled: dict[Label, list[tuple[Key, Cached]]] = {}
    for key, label, cached in entries:
        labelled.setdefault(label, []).append((key, cached))
    for label, theirs in labelled.items():
        store.put_many(label, theirs)
    await store.flush()
    stored = 0
    for label, theirs in labelled.items():
        last = dict(theirs)
        found = await store.get_many(label, list(last))
        stored += sum(found.get(key) == last[key] for key, _ in theirs)
    return stored


def _has_dimensions(space: str, dimensions: int) -> bool:
    """Whether `str(Space)` may be *space*."""
    return space.endswith(f"@{dimensions}") or f"@{dimensions}+" in space


def _check(entry: Entry) -> str:
    key, label, cached = entry
    digest = hashlib.blake2b(pack(key, cached), digest_size=_CHECK_BYTES)
    digest.update(orjson.dumps([label.model, label.space, label.project]))
    return digest.hexdigest()
