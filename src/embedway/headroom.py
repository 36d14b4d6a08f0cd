"""How much more one account takes now: calls at a time, requests and tokens a minute.

How many calls at a time are good for it is found out: a little more after each success, much less
after a refusal or a timeout (additive increase, multiplicative decrease). Requests and tokens a
minute are what the operator says, and what the provider's rate headers say.
"""

from __future__ import annotations

from msgspec import Struct

from embedway.clock import Clock
from embedway.errors import EmbedError, UpstreamRateLimited
from embedway.types import Told

_DECREASE = 0.7
_DECREASE_EVERY_S = 1.0
"""Many calls fail of one cause: they are one reason to slow down."""
_PATIENCE = 2.0
"""Who waited less than so many times the usual was impatient: the account need not be slow."""
_LONGEST_HOLD_S = 60.0
"""What a provider says for longer than that is asked again each minute: it may be over before."""
_UNKNOWN_S = 1.0
"""How long a call takes, before the first has ended."""
_NEWEST = 0.2
"""What the newest call weighs in the average."""
_MINUTE_S = 60.0


class _Bucket:
    """So much a minute, evenly, with at most a tenth of it at once."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._rate = per_minute / _MINUTE_S
        self._most = max(1.0, per_minute / 10)
        self._level = self._most
        self._clock = clock
        self._filled_at = clock.monotonic()

    def wait_s(self, amount: float) -> float:
        """How long until *amount* may be taken; more than the bucket holds waits until it is
        full."""
        return self.drain_s(min(amount, self._most))

    def drain_s(self, amount: float) -> float:
        """How long until *amount* could be taken bit by bit."""
        self._fill()
        return max(0.0, (amount - self._level) / self._rate)

    def take(self, amount: float) -> None:
        """May leave a debt, which the next ones wait for."""
        self._fill()
        self._level -= amount

    def _fill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._most, self._level + (now - self._filled_at) * self._rate)
        self._filled_at = now


class Shown(Struct, frozen=True):
    """What operators see."""

    concurrency: int
    in_flight: int
    waiting: int


class Headroom:
    """Of one account. For one event loop."""

    def __init__(
        self,
        clock: Clock,
        concurrency: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self._clock = clock
        self._most = concurrency
        self._concurrency = float(concurrency)
        self._slowed_at = float("-inf")
        self._held_until = float("-inf")
        self._usual_s: float | None = None
        """How long answers took of late, on average."""
        self.in_flight = 0
        self._requests = _Bucket(requests_per_minute, clock) if requests_per_minute else None
        self._tokens = _Bucket(tokens_per_minute, clock) if tokens_per_minute else None

    @property
    def concurrency(self) -> int:
        """Calls at a time that are good for it now."""
        return max(1, int(self._concurrency))

    @property
    def counts_tokens(self) -> bool:
        """Whether a call's tokens matter."""
        return self._tokens is not None

    @property
    def closed_s(self) -> float:
        """How long it takes no call at all, however small."""
        wait = max(0.0, self._held_until - self._clock.monotonic())
        if self._requests is not None:
            wait = max(wait, self._requests.wait_s(1))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait_s(0))
        return wait

    def wait_s(self, tokens: int) -> float | None:
        """How long a call of so many tokens has to wait; None: until another one ends."""
        if self.in_flight >= self.concurrency:
            return None
        wait = self.closed_s
        return wait if self._tokens is None else max(wait, self._tokens.wait_s(tokens))

    def drain_s(self, calls: int, tokens: int) -> float:
        """About how long until so many calls, of so many tokens together, have left."""
        usual_s = _UNKNOWN_S if self._usual_s is None else self._usual_s
        wait = max(self.closed_s, calls * usual_s / self.concurrency)
        if self._requests is not None:
            wait = max(wait, self._requests.drain_s(calls))
        if self._tokens is not None:
            wait = max(wait, self._tokens.drain_s(tokens))
        return wait

    def begin(self, tokens: int) -> float:
        """A call of about so many tokens leaves; returns its start, for how it ends."""
        self.in_flight += 1
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)
        return self._clock.monotonic()

    def succeed(self, started: float, told: Told | None = None) -> None:
        """It was answered. told: what the provider's headers said."""
        self.in_flight -= 1
        taken = self._clock.monotonic() - started
        before = taken if self._usual_s is None else self._usual_s
        self._usual_s = before + _NEWEST * (taken - before)
        self._concurrency = min(self._most, self._concurrency + 1 / self._concurrency)
        self._heed(told)

    def time_out(self, started: float) -> None:
        """It was not answered in the time it had: much, or little by the caller's own wish."""
        self.in_flight -= 1
        taken = self._clock.monotonic() - started
        if self._usual_s is None or taken >= _PATIENCE * self._usual_s:
            self._slow_down()

    def fail(self, error: EmbedError, told: Told | None = None) -> None:
        """It failed in another way."""
        self.in_flight -= 1
        if isinstance(error, UpstreamRateLimited):
            self._slow_down()
            self._hold(error.retry_after_s)
        self._heed(told)

    def abandon(self) -> None:
        """It ended and told nothing of the account: it was cancelled, or made under the caller's
        own credential."""
        self.in_flight -= 1

    def _heed(self, told: Told | None) -> None:
        self._hold(None if told is None else told.wait_s)

    def _hold(self, seconds: float | None) -> None:
        if seconds is not None:
            until = self._clock.monotonic() + min(seconds, _LONGEST_HOLD_S)
            self._held_until = max(self._held_until, until)

    def _slow_down(self) -> None:
        now = self._clock.monotonic()
        if now - self._slowed_at >= _DECREASE_EVERY_S:
            self._slowed_at = now
            self._concurrency = max(1.0, self._concurrency * _DECREASE)
