"""The laws of every store of vectors, as a machine that does anything in any order and compares the
store with a dictionary.

A store's own tests make a class of `StoreLaws` that says how to open one and how to damage what it
keeps, and run its `TestCase`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace

from embedway.cached import (
    KEY_BYTES,
    Cached,
    CacheEvent,
    CountCache,
    Key,
    Label,
    Selection,
    VectorStore,
    pack,
)
from embedway.vectors import fault, from_numbers
from tests.fakes import FakeClock

Damage = Callable[[bytes], bytes]
"""What becomes of a stored value."""

T = TypeVar("T")

# The odd ones hold what patterns, SQL and separators are made of.
MODELS = ("openai/small", "tei:*?[a-z]\\'%_ é")
SPACES = ("openai/small@8", "tei@8+query")
PROJECTS = ("", "p:1/*")
LABELS = tuple(Label(*parts) for parts in product(MODELS, SPACES, PROJECTS))
TEXTS_EACH = 4


def make_key(label: Label, text: str) -> Key:
    """A key as the gateway makes one: a digest of all that decides the vector."""
    named = "\0".join((label.model, label.space, label.project, text))
    return hashlib.blake2b(named.encode(), digest_size=KEY_BYTES).digest()


KNOWN_KEYS = {make_key(label, str(n)): label for label in LABELS for n in range(TEXTS_EACH)}

_VECTORS = st.tuples(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
    st.sampled_from((1, 1, 1, 170)),
).map(lambda drawn: from_numbers(drawn[0] * drawn[1]))

CACHED = st.builds(
    Cached,
    vector=_VECTORS.filter(lambda vector: fault(vector, len(vector) // 4) is None),
    tokens=st.integers(0, 2**32 - 1),
    origin=st.binary(min_size=8, max_size=8),
    created_s=st.just(0),
    is_estimated=st.booleans(),
    is_truncated=st.booleans(),
)
"""Any vector; the time is set where the test knows it."""

SELECTIONS = st.builds(
    Selection,
    model=st.sampled_from((None, *MODELS, "unknown")),
    space=st.sampled_from((None, *SPACES)),
    project=st.sampled_from((None, *PROJECTS)),
)

KEYS = st.sampled_from(sorted(KNOWN_KEYS))

DAMAGES: st.SearchStrategy[Damage] = st.one_of(
    st.integers(0).map(lambda bit: lambda value: flip(value, bit)),
    st.integers(0).map(lambda size: lambda value: value[: size % max(1, len(value))]),
    st.binary(min_size=1, max_size=9).map(lambda more: lambda value: value + more),
)


def flip(value: bytes, bit: int) -> bytes:
    """*value* with one bit turned round; what is empty gets a bit."""
    if not value:
        return b"\x01"
    place, shift = divmod(bit % (8 * len(value)), 8)
    return value[:place] + bytes((value[place] ^ 1 << shift,)) + value[place + 1 :]


class Counts:
    """Counts the events of a store; usable from any thread."""

    def __init__(self) -> None:
        self._events: list[tuple[CacheEvent, int]] = []  # appending is one step, adding is not

    def __call__(self, event: CacheEvent, count: int, /) -> None:
        """Count it."""
        self._events.append((event, count))

    def __getitem__(self, event: CacheEvent) -> int:
        return sum(count for name, count in list(self._events) if name == event)


class StoreLaws(RuleBasedStateMachine):
    """Two stores on the same data; `self.store` does the work, `self.other` looks on."""

    ttl_s = 1000.0

    def open_store(self, clock: FakeClock, count: CountCache) -> VectorStore:
        """Open one more store on the same data, which is empty at the first call."""
        raise NotImplementedError

    async def damage(self, label: Label, key: Key, how: Damage) -> None:
        """Change the stored value of *key* behind the stores' backs."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.counts = Counts()
        self.model: dict[Key, Cached] = {}
        """All that was put and not purged; what is too old stays in it."""
        self.purged: list[Selection] = []
        """What the other store has not heard of yet."""
        self.runner = asyncio.Runner()
        self.store = self.open_store(self.clock, self.counts)
        self.other = self.open_store(self.clock, self.counts)
        self.mark, selections = self.run(self.other.purged_since(-1))
        assert selections == []

    def run(self, steps: Coroutine[Any, Any, T]) -> T:
        """Run *steps* in the event loop of this machine."""
        return self.runner.run(steps)

    def is_alive(self, cached: Cached) -> bool:
        """Whether it is not too old yet."""
        return cached.created_s + self.ttl_s > self.clock.now()

    def meant(self, selection: Selection) -> tuple[dict[Key, Cached], int]:
        """What is meant and alive, and how much of it there is besides that is too old."""
        meant = {k: v for k, v in self.model.items() if selection.holds(KNOWN_KEYS[k])}
        alive = {key: cached for key, cached in meant.items() if self.is_alive(cached)}
        return alive, len(meant) - len(alive)

    async def read(self, store: VectorStore, keys: Iterable[Key]) -> dict[Key, Cached]:
        """Get these keys, label by label."""
        found: dict[Key, Cached] = {}
        asked: dict[Label, list[Key]] = {}
        for key in keys:
            asked.setdefault(KNOWN_KEYS[key], []).append(key)
        for label, theirs in asked.items():
            found.update(await store.get_many(label, theirs))
        return found

    @rule(drawn=st.dictionaries(KEYS, CACHED, min_size=1, max_size=8), age=st.integers(0, 1100))
    def put(self, drawn: dict[Key, Cached], age: int) -> None:
        """What is put is kept, and replaces what was there."""
        created_s = int(self.clock.now()) - age
        entries = {key: replace(cached, created_s=created_s) for key, cached in drawn.items()}

        async def put() -> None:
            for key, cached in entries.items():
                self.store.put_many(KNOWN_KEYS[key], [(key, cached)])

        self.run(put())
        self.model |= entries

    @rule(
        label=st.sampled_from(LABELS),
        drawn=st.lists(CACHED, min_size=TEXTS_EACH, max_size=TEXTS_EACH),
    )
    def put_together(self, label: Label, drawn: list[Cached]) -> None:
        """Many of one label are kept like one."""
        keys = [key for key, theirs in KNOWN_KEYS.items() if theirs == label]
        created_s = int(self.clock.now())
        entries = [
            (key, replace(cached, created_s=created_s))
            for key, cached in zip(keys, drawn, strict=True)
        ]

        async def put() -> None:
            self.store.put_many(label, entries)

        self.run(put())
        self.model.update(entries)

    @rule(keys=st.lists(KEYS, max_size=20), elsewhere=st.booleans())
    def get(self, keys: list[Key], elsewhere: bool) -> None:
        """What was put is found bit for bit, here and by others, and nothing else is."""

        async def get() -> dict[Key, Cached]:
            await self.store.flush()
            return await self.read(self.other if elsewhere else self.store, keys)

        alive, _ = self.meant(Selection())
        assert self.run(get()) == {key: alive[key] for key in keys if key in alive}

    @rule(text=st.text(max_size=5), label=st.sampled_from(LABELS))
    def get_unknown(self, text: str, label: Label) -> None:
        """What was never put is not found."""
        key = make_key(label, "never put: " + text)
        assert self.run(self.store.get_many(label, [key])) == {}

    @rule(seconds=st.sampled_from((0.5, 61.0, 250.0, 999.0, 1000.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule(selection=SELECTIONS, flush_first=st.booleans())
    def purge(self, selection: Selection, flush_first: bool) -> None:
        """What a purge means is gone, also what still waited to be written; the rest stays."""

        async def purge() -> int:
            if flush_first:
                await self.store.flush()
            return await self.store.purge(selection)

        alive, too_old = self.meant(selection)
        deleted = self.run(purge())
        assert deleted <= len(alive) + too_old
        assert deleted >= len(alive) or not flush_first
        self.model = {k: v for k, v in self.model.items() if not selection.holds(KNOWN_KEYS[k])}
        self.purged.append(selection)

    @rule()
    def hear_of_purges(self) -> None:
        """Others hear of each purge once, in order."""
        self.mark, selections = self.run(self.other.purged_since(self.mark))
        assert selections == self.purged
        self.purged = []

    @precondition(lambda self: self.meant(Selection())[0])
    @rule(data=st.data(), how=DAMAGES)
    def find_damage(self, data: st.DataObject, how: Damage) -> None:
        """A damaged value is a miss that is counted once."""
        alive, _ = self.meant(Selection())
        self.damage_one(data.draw(st.sampled_from(sorted(alive))), how)

    @precondition(lambda self: len(self.meant(Selection())[0]) > 1)
    @rule(data=st.data())
    def find_mix_up(self, data: st.DataObject) -> None:
        """A value that is whole but belongs to another key is damage."""
        alive, _ = self.meant(Selection())
        key, other = data.draw(
            st.lists(st.sampled_from(sorted(alive)), min_size=2, max_size=2, unique=True)
        )
        self.damage_one(key, lambda _: pack(other, alive[other]))

    def damage_one(self, key: Key, how: Damage) -> None:
        """Damage the value of *key* and read it twice."""
        before = self.counts["damaged"]

        async def damage_and_read() -> list[dict[Key, Cached]]:
            await self.store.flush()
            await self.damage(KNOWN_KEYS[key], key, how)
            first = await self.read(self.store, [key])
            await self.store.flush()
            return [first, await self.read(self.store, [key])]

        assert self.run(damage_and_read()) == [{}, {}]
        assert self.counts["damaged"] == before + 1
        del self.model[key]

    @rule(selection=SELECTIONS)
    def list_entries(self, selection: Selection) -> None:
        """All that is meant is listed, each once, with its label."""

        async def entries() -> list[tuple[Key, Label, Cached]]:
            await self.store.flush()
            return [entry async for entry in self.store.entries(selection)]

        alive, _ = self.meant(selection)
        listed = self.run(entries())
        assert len(listed) == len(alive)
        assert {key: cached for key, _, cached in listed} == alive
        assert all(label == KNOWN_KEYS[key] for key, label, _ in listed)

    @rule()
    def sum_by_label(self) -> None:
        """The sums by label are those of what is kept; what is too old may still be in them."""

        async def groups() -> list[Any]:
            await self.store.flush()
            return await self.store.groups()

        groups = self.run(groups())
        alive, _ = self.meant(Selection())
        least = Counter(KNOWN_KEYS[key] for key in alive)
        most = Counter(KNOWN_KEYS[key] for key in self.model)
        found = {group.label: group.vectors for group in groups}
        assert len(found) == len(groups)
        assert all(least[label] <= found.get(label, 0) <= most[label] for label in LABELS)
        assert all(count > 0 for count in found.values())
        for group in groups:
            vectors = [v.vector for k, v in alive.items() if KNOWN_KEYS[k] == group.label]
            assert group.bytes >= sum(map(len, vectors))

    @rule()
    def reopen(self) -> None:
        """Closing writes what waits, and what was written is there after opening again."""

        async def close() -> None:
            await self.store.close()

        self.run(close())
        self.store = self.open_store(self.clock, self.counts)

    def teardown(self) -> None:
        """Nothing failed and nothing was dropped; a store closed twice stays closed."""

        async def close() -> None:
            for store in (self.store, self.other, self.store):
                await store.close()

        self.run(close())
        self.runner.close()
        for event in ("dropped", "read_error", "write_error", "evicted"):
            assert not self.counts[event], event
