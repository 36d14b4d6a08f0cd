"""The vectors in memory: what is kept, for how long, and how much of it."""

import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from embedway.cached import Cached, Label, Selection, pack, unpack
from embedway.store.recent import RecentVectors
from embedway.vectors import from_numbers
from tests.fakes import FakeClock
from tests.store.store_laws import LABELS, SELECTIONS, Counts

LABEL = Label("openai/small", "openai/small@8", "default")


def make_cached(width=8, **changes):
    """A kept vector, made now on a FakeClock."""
    fields = {"tokens": 3, "origin": b"original", "created_s": 1_800_000_000}
    return Cached(vector=from_numbers([1.0] * width), **{**fields, **changes})


CACHED = make_cached()


def open_recent(clock=None, *, max_bytes=2**20, ttl_s=0.0, count=None):
    """An empty memory."""
    return RecentVectors(
        max_bytes=max_bytes, ttl_s=ttl_s, clock=clock or FakeClock(), count=count or Counts()
    )


def size_of_one():
    """What one of these vectors is taken to take."""
    recent = open_recent()
    recent.put_many(LABEL, [(b"k", CACHED)])
    return recent.bytes


def key(number):
    """A key."""
    return b"%016d" % number


def put(recent, *numbers, label=LABEL, cached=CACHED):
    """Keep a vector under each of these keys."""
    recent.put_many(label, [(key(number), cached) for number in numbers])


def known(recent, *numbers):
    """Those of these keys that are known."""
    return {int(found) for found in recent.get_many([key(number) for number in numbers])}


def test_what_is_put_is_there():
    """What was put is found as it is; nothing else is, and no double does harm."""
    recent, other = open_recent(), make_cached(tokens=9)
    recent.put_many(LABEL, [(key(1), CACHED), (key(2), other)])

    assert recent.get_many([key(2), key(1), key(3), key(2)]) == {key(1): CACHED, key(2): other}
    assert recent.get_many([]) == {}
    assert len(recent) == 2


def test_put_replaces():
    """What is put takes the place of what was under its key, also if it is of another size."""
    recent, wide = open_recent(), make_cached(width=100)
    put(recent, 1, 2)
    before = recent.bytes
    recent.put_many(LABEL, [(key(1), wide)])

    assert recent.get_many([key(1)]) == {key(1): wide}
    assert recent.bytes == before + 4 * 92
    put(recent, 1)
    assert recent.bytes == before


def test_add_does_not_replace():
    """What is added fills gaps only: what is already there is newer."""
    recent, old = open_recent(), make_cached(tokens=9)
    put(recent, 1)
    recent.add_many(LABEL, [(key(1), old), (key(2), old)])

    assert recent.get_many([key(1), key(2)]) == {key(1): CACHED, key(2): old}


def test_time_to_live():
    """A vector is known until its time to live is over, from when it was made."""
    clock = FakeClock()
    recent = open_recent(clock, ttl_s=100.0)
    put(recent, 1)
    put(recent, 2, cached=replace(CACHED, created_s=CACHED.created_s - 60))
    clock.advance(39.5)
    assert known(recent, 1, 2) == {1, 2}
    clock.advance(0.5)
    assert known(recent, 1, 2) == {1}
    clock.advance(59.5)
    assert known(recent, 1, 2) == {1}
    clock.advance(0.5)
    assert known(recent, 1, 2) == set()
    assert (len(recent), recent.bytes) == (0, 0)


def test_no_time_to_live():
    """With a time to live of 0 nothing gets too old, whatever the clocks say."""
    clock = FakeClock()
    recent = open_recent(clock)
    put(recent, 1)
    put(recent, 2, cached=replace(CACHED, created_s=0))
    clock.advance(1e9)

    assert known(recent, 1, 2) == {1, 2}


def test_the_least_recently_used_goes_first():
    """When there is no room, those go that were not read or put for longest, and are counted."""
    counts = Counts()
    recent = open_recent(max_bytes=3 * size_of_one(), count=counts)
    put(recent, 1, 2, 3)
    assert known(recent, 1) == {1}
    put(recent, 2)
    put(recent, 4)
    assert counts["evicted"] == 1
    assert known(recent, 3) == set()
    put(recent, 5)

    assert known(recent, 1, 2, 3, 4, 5) == {2, 4, 5}
    assert counts["evicted"] == 2


@pytest.mark.parametrize("max_bytes", [0, 1, 400])
def test_no_room(max_bytes):
    """What does not fit at all is not kept, and drives nothing out."""
    counts = Counts()
    recent = open_recent(max_bytes=max_bytes, count=counts)
    put(recent, 1)
    assert (len(recent), recent.bytes, counts["evicted"]) == (0, 0, 0)

    recent = open_recent(max_bytes=2 * size_of_one(), count=counts)
    put(recent, 1, 2)
    recent.put_many(LABEL, [(key(2), make_cached(width=1000))])
    assert known(recent, 1, 2) == {1}, "the old vector is no longer the key's"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from((1, 8, 100)), st.sampled_from(LABELS)),
        max_size=40,
    ),
    st.integers(0, 5000),
    SELECTIONS,
)
def test_bytes_are_exact(puts, max_bytes, selection):
    """The bytes are at all times those of what is kept, never more than allowed, and the groups
    add up to them."""
    recent = open_recent(max_bytes=max_bytes)
    kept = {}
    for number, width, label in puts:
        recent.put_many(label, [(key(number), make_cached(width))])
        assert recent.bytes <= max_bytes
        kept[key(number)] = label
    groups = recent.groups()
    assert sum(group.bytes for group in groups) == recent.bytes
    assert sum(group.vectors for group in groups) == len(recent)
    assert len({group.label for group in groups}) == len(groups)

    there = set(recent.get_many(list(kept)))
    meant = {one for one in there if selection.holds(kept[one])}
    assert recent.purge(selection) == len(meant)
    assert set(recent.get_many(list(kept))) == there - meant
    assert sum(group.bytes for group in recent.groups()) == recent.bytes
    recent.purge(Selection())
    assert (len(recent), recent.bytes, recent.groups()) == (0, 0, [])


def test_purges_are_counted():
    """Whoever reads elsewhere can see that something was purged meanwhile, also if nothing of it
    was here."""
    recent = open_recent()
    recent.purge(Selection(model="unknown"))

    assert recent.purges == 1


@pytest.mark.parametrize("width", [8, 1536])
@pytest.mark.parametrize(
    "count", [1300, 1366, 2731, 5400]
)  # the table grows at the two in the middle
def test_bytes_are_what_they_take(width, count):
    """What is kept takes no more memory than it is counted for, and not much less."""
    packed = [(one := os.urandom(16), pack(one, make_cached(width, tokens=999))) for _ in range(8)]
    recent = open_recent(max_bytes=2**30)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            one, value = packed[number % len(packed)]
            recent.put_many(LABEL, [(key(number), unpack(one, value))])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    beside = recent.bytes - (after - before)
    assert 0 <= beside <= 120 * count


def test_repr():
    """The repr shows the limit, not the content."""
    assert repr(open_recent(max_bytes=7)) == "RecentVectors(max_bytes=7)"
