"""The vectors that were used last, in memory, bounded in bytes: answered without a wait."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from embedway.cached import Cached, CountCache, Group, Key, Label, Selection
from embedway.clock import Clock

_BYTES_BESIDE = 420
"""What an entry takes besides its vector, at most (when the table has just grown): the objects
around it, measured with tracemalloc."""


class RecentVectors:
    """The least recently used go first when there is no room. For one event loop."""

    def __init__(self, *, max_bytes: int, ttl_s: float, clock: Clock, count: CountCache) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.purges = 0
        """How often something was purged: what was read elsewhere before may be purged since."""
        self._ttl_s = ttl_s
        self._clock = clock
        self._count = count
        self._entries: OrderedDict[Key, tuple[Cached, Label]] = OrderedDict()

    def __repr__(self) -> str:
        return f"RecentVectors(max_bytes={self.max_bytes})"

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Cached]:
        """Those that are known and not too old."""
        entries, known = self._entries, {}
        oldest = self._clock.now() - self._ttl_s if self._ttl_s else -1.0
        for key in keys:
            if (entry := entries.get(key)) is None:
                continue
            if entry[0].created_s <= oldest:
                self._remove(key)
                continue
            entries.move_to_end(key)
            known[key] = entry[0]
        return known

    def put_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None:
        """Keep them, in place of what is kept under the same keys."""
        for key, cached in entries:
            self._remove(key)
            if (size := _size(cached)) > self.max_bytes:
                continue
            self._entries[key] = (cached, label)
            self.bytes += size
        evicted = 0
        while self.bytes > self.max_bytes:
            _, (oldest, _) = self._entries.popitem(last=False)
            self.bytes -= _size(oldest)
            evicted += 1
        if evicted:
            self._count("evicted", evicted)

    def add_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None:
        """Keep those that are not here: what was read elsewhere may have been replaced since."""
        self.put_many(label, [entry for entry in entries if entry[0] not in self._entries])

    def purge(self, selection: Selection) -> int:
        """Forget what is meant; returns how many."""
        self.purges += 1
        meant = [key for key, (_, label) in self._entries.items() if selection.holds(label)]
        for key in meant:
            self._remove(key)
        return len(meant)

    def groups(self) -> list[Group]:
        """What is kept, by label."""
        vectors: Counter[Label] = Counter()
        sizes: Counter[Label] = Counter()
        for cached, label in self._entries.values():
            vectors[label] += 1
            sizes[label] += _size(cached)
        return [Group(label, count, sizes[label]) for label, count in vectors.items()]

    def _remove(self, key: Key) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= _size(entry[0])


def _size(cached: Cached) -> int:
    return len(cached.vector) + _BYTES_BESIDE
