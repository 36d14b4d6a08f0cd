"""How one deployment fares: its speed, what is in flight, and whether it may be asked at all.

A breaker opens after failures, and lets one call through now and then to see whether they are
over. A full account (429) is let alone until the time it named. All from what calls tell; nothing
is asked for the sake of knowing.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Literal

from msgspec import Struct

from embedway.chance import Chance
from embedway.clock import Clock
from embedway.errors import (
    EmbedError,
    MalformedResponse,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)

State = Literal["closed", "open", "half_open"]

_FAILURES_IN_A_ROW = 5
_WINDOW_CALLS = 20
_WINDOW_FAILURES = 10
"""Of the last so many calls: half of them, for an account that fails now and then succeeds too."""
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 8.0
"""Ten seconds after the last fault all is as before: a probe comes within this time."""
_FORGIVEN_S = 10.0
"""So long after it opened a breaker is closed without a probe: when many come at once after a
quiet time, all but the probe would be refused though nothing fails any more; and a probe that
never ends must not keep all others away."""
_SHORTER = 0.5
"""A rest is shorter by up to such a part."""
_FULL_S = 1.0
"""How long an account that names no time is full."""
_LONGEST_FULL_S = 60.0
_FAIR_S = 1.0
_FAIR_TIMES = 4
"""A call had a fair chance if it had so much time, and so many times what calls take: that a caller
is in more of a hurry says nothing of the account."""
_NEWEST = 0.2
"""What the newest call weighs in the average latency."""
_LATENCIES = 256


class Begun(Struct, frozen=True):
    """A call on its way."""

    at_s: float
    era: int
    """How often the breaker had opened or closed by then."""
    is_probe: bool


class Health:
    """Of one deployment. For one event loop."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._chance = chance
        self.in_flight = 0
        self.milliseconds: float | None = None
        """How long calls took of late, on average; None before the first."""
        self.last_error: EmbedError | None = None
        self.last_error_ms = 0
        """When it came, in milliseconds since 1970."""
        self.outcomes: Counter[str] = Counter()
        """How calls ended since the start: "success", "abandoned", or an error's code."""
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._outcomes: deque[bool] = deque(maxlen=_WINDOW_CALLS)
        self._failures = 0
        self._rest_s = _FIRST_REST_S
        self._open_until: float | None = None
        self._forgiven_at = 0.0
        self._era = 0
        self._is_probed = False
        self._full_until = 0.0

    @property
    def state(self) -> State:
        """The breaker's."""
        now = self._clock.monotonic()
        if self._open_until is None or now >= self._forgiven_at:
            return "closed"
        return "half_open" if now >= self._open_until else "open"

    @property
    def is_probe_due(self) -> bool:
        """Whether one call should find out if the failures are over."""
        return self.state == "half_open" and not self._is_probed

    @property
    def wait_s(self) -> float:
        """How long it should not be asked; 0 if it may be."""
        now = self._clock.monotonic()
        wait = max(0.0, self._full_until - now)
        if self._open_until is not None and now < self._forgiven_at:
            # Nobody knows how long the probe takes that is under way.
            wait = max(wait, _FIRST_REST_S if self._is_probed else self._open_until - now)
        return wait

    @property
    def is_full(self) -> bool:
        """Whether the account's own limit is all that keeps it from being asked."""
        return self.state == "closed" and self._full_until > self._clock.monotonic()

    @property
    def is_ours_alone(self) -> bool:
        """Whether our own credential or its limit is what last went wrong: a caller who brings his
        own may ask all the same."""
        return isinstance(self.last_error, (UpstreamRateLimited, UpstreamUnauthorized))

    def percentile_ms(self, share: float) -> float | None:
        """The latency that this share of the last calls did not exceed; None before the first."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def is_measured(self) -> bool:
        """Whether there were enough calls for a percentile to mean something."""
        return len(self._latencies) >= _WINDOW_CALLS

    def begin(self) -> Begun:
        """A call begins; whoever has called this must call one of the next three."""
        self.in_flight += 1
        is_probe = self.is_probe_due
        self._is_probed = self._is_probed or is_probe
        return Begun(self._clock.monotonic(), self._era, is_probe)

    def succeed(self, begun: Begun) -> None:
        """The call has an answer: also a refusal that only the caller is to blame for."""
        self.outcomes["success"] += 1
        self._answered(begun)

    def _answered(self, begun: Begun) -> None:
        self._end(begun)
        taken = self._taken_s(begun) * 1000
        before = taken if self.milliseconds is None else self.milliseconds
        self.milliseconds = before + _NEWEST * (taken - before)
        self._latencies.append(taken)
        if begun.era != self._era:
            return  # from before the breaker opened or closed: how it fares now it cannot tell
        self._outcomes.append(True)
        self._failures = 0
        if begun.is_probe:
            self._open_until = None
            self._rest_s = _FIRST_REST_S
            self._begin_era()

    def abandon(self, begun: Begun) -> None:
        """The call ended without telling anything: it was cancelled, or never left."""
        self.outcomes["abandoned"] += 1
        self._end(begun)

    def fail(self, begun: Begun, error: EmbedError) -> None:
        """The call failed."""
        self.outcomes[error.code] += 1
        if _is_of_callers_own(error):
            self._end(begun)  # his credential is wrong or at its limit, not ours
        elif isinstance(error, UpstreamRejected):
            self._answered(begun)
        elif isinstance(error, UpstreamRateLimited):
            self._end(begun)
            self._rest_full(error)
        elif self._tells_of_the_account(begun, error):
            self._end(begun)
            self._note(error)
            if begun.era == self._era:
                self._judge(begun, error)
        else:
            self._end(begun)

    def _end(self, begun: Begun) -> None:
        self.in_flight -= 1
        if begun.is_probe and begun.era == self._era:
            self._is_probed = False

    def _taken_s(self, begun: Begun) -> float:
        return self._clock.monotonic() - begun.at_s

    def _rest_full(self, error: UpstreamRateLimited) -> None:
        wait = _FULL_S if error.retry_after_s is None else error.retry_after_s
        until = self._clock.monotonic() + min(wait, _LONGEST_FULL_S)
        self._full_until = max(self._full_until, until)
        self._note(error)

    def _note(self, error: EmbedError) -> None:
        self.last_error, self.last_error_ms = error, round(self._clock.now() * 1000)

    def _tells_of_the_account(self, begun: Begun, error: EmbedError) -> bool:
        if isinstance(error, UpstreamTimeout):
            usual_s = (self.milliseconds or 0.0) / 1000
            return self._taken_s(begun) >= max(_FAIR_S, _FAIR_TIMES * usual_s)
        return isinstance(error, (UpstreamUnavailable, MalformedResponse, UpstreamUnauthorized))

    def _judge(self, begun: Begun, error: EmbedError) -> None:
        self._outcomes.append(False)
        self._failures += 1
        is_bad = (
            begun.is_probe
            or self._failures >= _FAILURES_IN_A_ROW
            or self._outcomes.count(False) >= _WINDOW_FAILURES
            or isinstance(error, UpstreamUnauthorized)  # no call can go better
        )
        if not is_bad:
            return
        if begun.is_probe:
            self._rest_s = min(_LONGEST_REST_S, 2 * self._rest_s)
        # Never the same: or the probes would keep step with a provider that comes and goes.
        rest_s = self._rest_s * (1 - _SHORTER * self._chance())
        self._open_until = self._clock.monotonic() + rest_s
        self._forgiven_at = self._clock.monotonic() + _FORGIVEN_S
        self._begin_era()

    def _begin_era(self) -> None:
        self._era += 1
        self._outcomes.clear()
        self._failures = 0
        self._is_probed = False


def _is_of_callers_own(error: EmbedError) -> bool:
    """Whether the provider refused the credential that the caller brought along."""
    is_byok = any(attempt.credential_type == "byok" for attempt in error.attempts)
    return is_byok and isinstance(error, (UpstreamRateLimited, UpstreamUnauthorized))
