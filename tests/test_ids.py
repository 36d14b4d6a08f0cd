"""Ids are ULIDs: 26 characters, sorted by time, made of nothing but what was passed in."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.clock import SystemClock
from embedway.ids import Ids, encode_ulid
from tests.fakes import FakeClock

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@pytest.mark.parametrize(
    ("milliseconds", "randomness", "ulid"),
    [
        (0, bytes(10), "0" * 26),
        (2**48 - 1, b"\xff" * 10, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
        # The time of the example in the ULID specification.
        (1469918176385, bytes(10), "01ARYZ6S410000000000000000"),
        (0, bytes(9) + b"\x01", "00000000000000000000000001"),
    ],
)
def test_encoding(milliseconds, randomness, ulid):
    """Time and randomness are written in Crockford's base 32, as the specification has it."""
    assert encode_ulid(milliseconds, randomness) == ulid


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_is_reversible(milliseconds, randomness):
    """A ULID is 26 characters of the alphabet from which time and randomness can be read back."""
    ulid = encode_ulid(milliseconds, randomness)
    number = 0
    for character in ulid:
        number = number * 32 + ALPHABET.index(character)

    assert len(ulid) == 26
    assert number >> 80 == milliseconds
    assert (number & (2**80 - 1)).to_bytes(10, "big") == randomness


@given(
    st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
    st.tuples(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10)),
)
def test_order(one, other):
    """ULIDs sort as text the way their times sort."""
    assert (encode_ulid(*one) < encode_ulid(*other)) == (one < other)


def test_are_made_of_clock_and_randomness():
    """A new id holds the clock's time and the randomness that was passed in."""
    clock = FakeClock(now=1469918176.3854)
    drawn = []

    def random_bytes(count):
        drawn.append(os.urandom(count))
        return drawn[-1]

    ids = Ids(clock, random_bytes)
    made = [ids.new() for _ in range(1000)]

    bytes_drawn = b"".join(drawn)
    parts = [bytes_drawn[i : i + 10] for i in range(0, 10_000, 10)]
    assert made == [encode_ulid(1469918176385, part) for part in parts]
    assert made[0].startswith("01ARYZ6S41")


def test_differ():
    """A thousand ids of one moment are all different."""
    ids = Ids(FakeClock())

    assert len({ids.new() for _ in range(1000)}) == 1000


async def test_system_clock():
    """The machine's clock goes forward, and sleeping for no time returns."""
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)

    assert clock.monotonic() >= before
    assert clock.now() > 1_700_000_000
