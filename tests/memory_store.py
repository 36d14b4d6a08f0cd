"""A store of vectors in a dictionary, which keeps to the Protocol's laws: labels, time to live,
purges that others hear of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from embedway.cached import Cached, Group, Key, Label, Selection
from embedway.clock import Clock
from embedway.store.database import StoreError


class MemoryStore:
    """`failure`: what every method that may raise raises, if set. `drops`: puts get lost."""

    def __init__(self, clock: Clock, *, ttl_s: float = 0.0) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self.kept: dict[Key, tuple[Label, Cached]] = {}
        self.purges: list[Selection] = []
        self.failure: str | None = None
        self.drops = False
        self.is_closed = False

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """Those that are known and young enough."""
        found = {key: self.kept[key][1] for key in keys if key in self.kept}
        return {key: cached for key, cached in found.items() if self._is_young(cached)}

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """Keep them at once."""
        if not self.drops:
            self.kept.update({key: (label, cached) for key, cached in entries})

    async def flush(self) -> None:
        """Nothing waits."""

    async def groups(self) -> list[Group]:
        """What is kept, by label."""
        self._fail()
        labels = sorted({label for label, _ in self.kept.values()}, key=repr)
        return [self._group(label) for label in labels]

    async def purge(self, selection: Selection, /) -> int:
        """Forget, and note it for the others."""
        self._fail()
        meant = [key for key, (label, _) in self.kept.items() if selection.holds(label)]
        for key in meant:
            del self.kept[key]
        self.purges.append(selection)
        return len(meant)

    async def purged_since(self, mark: int, /) -> tuple[int, list[Selection]]:
        """What was purged after *mark*."""
        return len(self.purges), self.purges[mark:] if mark >= 0 else []

    async def entries(self, selection: Selection, /) -> AsyncIterator[tuple[Key, Label, Cached]]:
        """All that is meant and young enough."""
        for key, (label, cached) in sorted(self.kept.items(), key=lambda item: item[0]):
            self._fail()
            if selection.holds(label) and self._is_young(cached):
                yield key, label, cached

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True

    def _group(self, label: Label) -> Group:
        theirs = [cached for other, cached in self.kept.values() if other == label]
        return Group(label, len(theirs), sum(len(cached.vector) + 56 for cached in theirs))

    def _is_young(self, cached: Cached) -> bool:
        return not self._ttl_s or cached.created_s + self._ttl_s > self._clock.now()

    def _fail(self) -> None:
        if self.failure is not None:
            raise StoreError(self.failure)
