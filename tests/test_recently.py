"""What was asked for a moment ago is kept, and only that."""

from hypothesis import given
from hypothesis import strategies as st

from embedway.recently import Recently
from tests.fakes import FakeClock

STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), max_size=50)


@given(STEPS)
def test_kept_while_asked_for(steps):
    """A name has the same value as long as less than the time passes between two questions for it,
    and a fresh one after that; nothing else is held."""
    clock = FakeClock()
    recently = Recently(object, 10.0, clock.monotonic)
    asked = {}
    for name, seconds in steps:
        clock.advance(seconds)
        now = clock.monotonic()
        value = recently.get(name)
        if name in asked:
            before, at = asked[name]
            assert (value is before) == (now - at < 10)
        asked[name] = (value, now)
        assert len(recently) == sum(now - at < 10 for _, at in asked.values())


def test_dropped():
    """What is dropped, or cleared with all others, begins anew; what is not there is no mistake."""
    recently = Recently(list, 10.0, FakeClock().monotonic)
    recently.get("a").append(1)
    recently.get("b").append(1)
    recently.drop("a")
    recently.drop("unknown")
    assert (recently.get("a"), recently.get("b")) == ([], [1])
    recently.clear()
    assert (len(recently), recently.get("b")) == (0, [])
