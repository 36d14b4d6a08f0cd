"""The breaker of one deployment: when it opens, how it finds out, and that it never sticks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.errors import (
    DeadlineExceeded,
    MalformedResponse,
    Overloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.health import Health
from tests.fakes import FakeClock, make_attempt

DOWN = UpstreamUnavailable("down", provider="openai")
SLOW = UpstreamTimeout("silent", provider="openai")
FULL = UpstreamRateLimited("full", provider="openai")
WRONG = MalformedResponse("wrong", provider="openai")
REFUSED = UpstreamUnauthorized("refused", provider="openai")


class Account:
    """A health and its clock, and calls that take no longer than said."""

    def __init__(self, chance=0.0):
        self.clock = FakeClock()
        self.health = Health(self.clock, lambda: chance)

    def call(self, error=None, takes_s=0.0):
        """One call from its beginning to its end."""
        begun = self.health.begin()
        self.clock.advance(takes_s)
        if error is None:
            self.health.succeed(begun)
        else:
            self.health.fail(begun, error)

    def fail(self, times, error=DOWN):
        """So many failures."""
        for _ in range(times):
            self.call(error)

    def probe(self, error=None):
        """Wait until a probe is due, and make it; how long that took."""
        rest = self.health.wait_s
        self.clock.advance(rest)
        assert self.health.is_probe_due
        self.call(error)
        return rest


@pytest.mark.parametrize("error", [DOWN, WRONG])
def test_opens_after_five_in_a_row(error):
    """Five failures one after the other open the breaker; four, or five with a success between
    them, do not."""
    account = Account()
    account.fail(4, error)
    account.call()
    account.fail(4, error)
    assert account.health.state == "closed"

    account.fail(1, error)

    assert account.health.state == "open"
    assert account.health.wait_s == 1.0
    assert account.health.last_error is error


def test_opens_when_half_of_twenty_fail():
    """Ten failures among the last twenty calls open the breaker; those before count no more."""
    account = Account()
    account.fail(3)
    for _ in range(11):
        account.call()
    for _ in range(9):
        account.fail(1)
        account.call()
    assert account.health.state == "closed"

    account.fail(1)

    assert account.health.state == "open"


def test_one_refused_credential_is_enough():
    """An account whose credential is refused is out at once, is probed, and comes back by
    itself."""
    account = Account()
    account.call(REFUSED)
    assert account.health.state == "open"
    assert account.health.last_error is REFUSED

    account.probe(REFUSED)
    account.probe()

    assert account.health.state == "closed"
    assert account.health.wait_s == 0.0


def test_rests_longer_each_time_but_never_long():
    """Each probe that fails doubles the rest, from one second up to eight; a success forgets it."""
    account = Account()
    account.fail(5)

    assert [account.probe(DOWN) for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    account.probe()
    account.fail(5)
    assert account.health.wait_s == 1.0


def test_rests_differ():
    """A rest is shortened by chance, by half at most: probes do not keep step with an account
    that comes and goes."""
    assert [rest_of(Account(chance)) for chance in (0.0, 0.5, 1.0)] == [1.0, 0.75, 0.5]


def rest_of(account):
    """How long it rests after its first failures."""
    account.fail(5)
    return account.health.wait_s


def test_one_probe_at_a_time():
    """While a probe is under way nobody else is sent, and its answer lets all in."""
    account = Account()
    account.fail(5)
    account.clock.advance(1.0)
    probe = account.health.begin()

    assert account.health.state == "half_open"
    assert not account.health.is_probe_due
    assert account.health.wait_s > 0

    account.health.succeed(probe)
    assert (account.health.state, account.health.wait_s) == ("closed", 0.0)


@pytest.mark.parametrize("end", ["cancelled", "full", "late", "busy"])
def test_a_probe_that_tells_nothing_does_not_stick(end):
    """After a probe that was cancelled, found the account full, or was in too much of a hurry, the
    next one is due; the breaker neither opens again nor closes."""
    account, ends = Account(), {"full": FULL, "late": SLOW, "busy": Overloaded("queue")}
    account.fail(5)
    account.clock.advance(1.0)
    probe = account.health.begin()

    if end == "cancelled":
        account.health.abandon(probe)
    else:
        account.health.fail(probe, ends[end])

    account.clock.advance(1.0 if end == "full" else 0.0)
    assert account.health.is_probe_due
    assert account.health.wait_s == 0.0


@pytest.mark.parametrize("end", ["succeed", "abandon", "fail"])
def test_what_began_before_tells_nothing(end):
    """A call that began before the breaker opened neither closes it, nor lengthens its rest, nor
    makes room for a second probe."""
    account = Account()
    old = account.health.begin()
    account.fail(5)
    account.clock.advance(1.0)
    account.health.begin()  # the probe, which is under way

    getattr(account.health, end)(old, *([DOWN] if end == "fail" else []))

    assert account.health.state == "half_open"
    assert not account.health.is_probe_due
    assert account.health.in_flight == 1


def test_old_failures_do_not_open_again():
    """What failed while the breaker was open, but began before, does not count once it has
    closed."""
    account = Account()
    old = [account.health.begin() for _ in range(10)]
    account.fail(5)
    account.probe()

    for begun in old:
        account.health.fail(begun, DOWN)

    assert account.health.state == "closed"
    assert account.health.in_flight == 0


@pytest.mark.parametrize(("named", "full_s"), [(None, 1.0), (0.2, 0.2), (30.0, 30.0), (900, 60.0)])
def test_a_full_account_is_left_alone(named, full_s):
    """After a 429 the account is let alone until the time it named, at most a minute; its breaker
    stays closed."""
    account = Account()
    account.fail(30, UpstreamRateLimited("full", provider="openai", retry_after_s=named))

    assert account.health.wait_s == pytest.approx(full_s)
    assert account.health.is_full
    assert account.health.state == "closed"
    account.clock.advance(full_s)
    assert (account.health.wait_s, account.health.is_full) == (0.0, False)


def test_a_shorter_time_does_not_replace_a_longer_one():
    """Of two times that the account named the later one counts."""
    account = Account()
    account.call(UpstreamRateLimited("full", provider="openai", retry_after_s=20.0))
    account.call(UpstreamRateLimited("full", provider="openai", retry_after_s=0.1))

    assert account.health.wait_s == 20.0


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRejected("no", provider="openai"),
        DeadlineExceeded("over"),
        Overloaded("our own queue"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_fault_of_the_account(error):
    """A request that was refused, or ended in our own queue, does not open the breaker."""
    account = Account()
    account.fail(40, error)

    assert account.health.state == "closed"
    assert account.health.in_flight == 0


@pytest.mark.parametrize("error", [REFUSED, FULL], ids=lambda error: type(error).__name__)
def test_a_callers_own_credential(error):
    """A credential that a caller brought along, and that is wrong or at its limit, does not take
    the account from the others."""
    account = Account()
    own = type(error)("his", provider="openai")
    own.attempts = (make_attempt(is_success=False, credential_type="byok"),)
    account.fail(40, own)

    assert (account.health.state, account.health.wait_s) == ("closed", 0.0)


@pytest.mark.parametrize(
    ("usual_s", "takes_s", "state"),
    [(None, 0.9, "closed"), (None, 1.0, "open"), (0.5, 1.9, "closed"), (0.5, 2.1, "open")],
)
def test_a_timeout_counts_if_there_was_time(usual_s, takes_s, state):
    """A timeout tells of the account only if it had a second, and four times what it usually
    takes: callers in a hurry do not take it from the others."""
    account = Account()
    if usual_s is not None:
        account.call(takes_s=usual_s)
    for _ in range(5):
        account.call(SLOW, takes_s)

    assert account.health.state == state


def test_latency():
    """The average follows the newest calls; a percentile is known once there were twenty."""
    account = Account()
    assert account.health.milliseconds is None
    assert account.health.percentile_ms(0.95) is None
    for number in range(1, 20):
        account.call(takes_s=number / 1000)
    assert not account.health.is_measured
    account.call(takes_s=0.02)

    assert account.health.is_measured
    assert account.health.percentile_ms(0.95) == pytest.approx(20.0)
    assert account.health.percentile_ms(0.5) == pytest.approx(11.0)
    assert 15 < account.health.milliseconds < 20


HISTORIES = st.lists(
    st.tuples(
        st.sampled_from(["begin", "succeed", "abandon", DOWN, SLOW, FULL, WRONG, REFUSED]),
        st.integers(0, 4),
        st.floats(0, 20),
    ),
    max_size=60,
)


@given(HISTORIES, st.floats(0, 1))
def test_recovers_from_any_history(history, chance):
    """Whatever has happened, in whatever order calls end: nothing is counted twice or lost, at
    most one probe is under way, and within ten seconds of the last fault a call is let through
    whose success lets all in."""
    account, running = Account(chance), []
    for event, which, seconds in history:
        account.clock.advance(seconds)
        if event == "begin" or not running:
            if not account.health.wait_s:  # as Balance does: nobody is sent who must wait
                running.append(account.health.begin())
            continue
        begun = running.pop(which % len(running))
        if event == "succeed":
            account.health.succeed(begun)
        elif event == "abandon":
            account.health.abandon(begun)
        else:
            account.health.fail(begun, event)
        era = account.health._era
        assert sum(one.is_probe and one.era == era for one in running) <= 1
        assert account.health.in_flight == len(running)
    while running:
        account.health.abandon(running.pop())

    waited = account.health.wait_s
    account.clock.advance(waited)
    assert waited <= 8.0
    account.call()
    assert (account.health.state, account.health.wait_s) == ("closed", 0.0)
    assert account.health.in_flight == 0
