"""A vector as the cache keeps it: what stands beside it, its bytes, and who may keep them.

The stored form carries the key it belongs to and a checksum over everything, so that a store that
mixes up its answers, or a damaged one, is found out on every read and can only cost a miss.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from embedway.types import Vector
from embedway.vectors import fault

KEY_BYTES = 16
ORIGIN_BYTES = 8
_MAGIC = b"EwV1"
# magic, checksum, key, origin, created (seconds since 1970), dimensions, tokens, flags, dtype
_HEAD = struct.Struct("<4s8s16s8sQIIB3s")
_FLOAT32 = b"<f4"
_CHECKED_FROM = 12
"""The checksum covers all that stands behind it."""
_ESTIMATED, _TRUNCATED = 1, 2

Key = bytes
"""The digest of all that decides a vector, 16 bytes (`cache_key.py`)."""

CacheEvent = Literal[
    "hit", "miss", "stored", "collapsed", "damaged", "evicted", "dropped", "read_error",
    "write_error",
]  # fmt: skip
"""hit, miss: texts asked for. stored: vectors handed to a store. collapsed: texts that shared a
question already in flight. damaged: stored values that were refused. evicted: thrown out for room.
dropped: not stored because too much waited. read_error, write_error: calls of a store that
failed."""

CountCache = Callable[[CacheEvent, int], None]
"""Counts events in the metrics."""


class Damaged(ValueError):
    """A stored value is not what was stored under its key."""


class Label(Struct, frozen=True):
    """What a purge can choose by."""

    model: str
    """Canonical name."""
    space: str
    project: str
    """The scope that may read it."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which vectors are meant; None means any."""

    model: str | None = None
    space: str | None = None
    project: str | None = None

    def holds(self, label: Label) -> bool:
        """Whether vectors of that label are meant."""
        wanted = (self.model, self.space, self.project)
        given = (label.model, label.space, label.project)
        return all(want in (None, got) for want, got in zip(wanted, given, strict=True))


class Cached(Struct, frozen=True, gc=False, kw_only=True):
    """A known vector. `tokens` are the model's own; nothing was paid for them this time."""

    vector: Vector
    tokens: int
    origin: bytes
    """Digest of the deployment that made it, 8 bytes: one that is no longer configured does not
    count."""
    created_s: int
    """Seconds since 1970, UTC."""
    is_estimated: bool = False
    is_truncated: bool = False


class Group(Struct, frozen=True):
    """How much a store holds under one label."""

    label: Label
    vectors: int
    bytes: int


class VectorStore(Protocol):
    """Keeps vectors for longer than a process lives.

    No method raises anything but cancellation unless it says so: what cannot be read is a miss,
    what cannot be written is lost; both are counted and logged.
    """

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """Those that are known, whole, and not older than the store's time to live."""
        ...

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """Keep them soon. Never blocks; what is too much at once is dropped and counted."""
        ...

    async def flush(self) -> None:
        """Wait until what was put before is written, or lost."""
        ...

    async def groups(self) -> list[Group]:
        """What is kept, by label. Raises StoreError."""
        ...

    async def purge(self, selection: Selection, /) -> int:
        """Forget what is meant, also in other processes, within a second or two; returns how many
        vectors were deleted. Raises StoreError."""
        ...

    async def purged_since(self, mark: int, /) -> tuple[int, list[Selection]]:
        """What any process has purged after *mark* (a number this method returned; -1 for the
        first call, which returns no selections), and the mark for the next call."""
        ...

    def entries(self, selection: Selection, /) -> AsyncIterator[tuple[Key, Label, Cached]]:
        """All that is meant, whole and not too old, a few at a time. Raises StoreError."""
        ...

    async def close(self) -> None:
        """Write what waits, within a bounded time, and let go."""
        ...


def pack(key: Key, cached: Cached) -> bytes:
    """The stored form: a head of 56 bytes, then the vector."""
    head = _HEAD.pack(
        _MAGIC,
        bytes(8),
        key,
        cached.origin,
        cached.created_s,
        len(cached.vector) // 4,
        cached.tokens,
        cached.is_estimated * _ESTIMATED | cached.is_truncated * _TRUNCATED,
        _FLOAT32,
    )
    checked = head[_CHECKED_FROM:]
    return b"".join((_MAGIC, _checksum(checked, cached.vector), checked, cached.vector))


def unpack(key: Key, value: bytes) -> Cached:
    """What was stored under *key*. Raises Damaged if *value* is anything else."""
    if len(value) < _HEAD.size:
        raise Damaged("it is too short")
    magic, checksum, owner, origin, created_s, dimensions, tokens, flags, dtype = _HEAD.unpack_from(
        value
    )
    vector = value[_HEAD.size :]
    if magic != _MAGIC or dtype != _FLOAT32:
        raise Damaged("it is of another form")
    if owner != key:
        raise Damaged("it belongs to another key")
    if checksum != _checksum(value[_CHECKED_FROM : _HEAD.size], vector):
        raise Damaged("its checksum is wrong")
    if wrong := fault(vector, dimensions):
        raise Damaged(f"its vector {wrong}")
    return Cached(
        vector=vector,
        tokens=tokens,
        origin=origin,
        created_s=created_s,
        is_estimated=bool(flags & _ESTIMATED),
        is_truncated=bool(flags & _TRUNCATED),
    )


def _checksum(head: bytes, vector: bytes) -> bytes:
    digest = hashlib.blake2b(head, digest_size=8)
    digest.update(vector)
    return digest.digest()
