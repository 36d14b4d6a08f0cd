"""Choose a deployment of the same model: same vectors, so always safe.

The caller's `provider`, `only`, `order` and `sort` first; then who is well, has the least in
flight and is fast. Knows each account's health, which calls tell of; nothing is asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from embedway.errors import (
    EmbedError,
    InvalidRequest,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.health import Health
from embedway.types import Embedder, EmbedParams, EmbedRequest, EmbedResponse

_log = logging.getLogger("embedway.balance")

Suits = Callable[[str, EmbedParams], bool]


def _suits_all(account: str, params: EmbedParams) -> bool:
    return True


def _is_open(account: str) -> float:
    return 0.0


@dataclass(frozen=True, eq=False)
class Balance:
    """One inner Embedder per account, the operator's preferred one first."""

    model: str
    accounts: Mapping[str, Embedder]
    health: Mapping[str, Health] = field(repr=False)
    random: Callable[[], float] = field(repr=False)
    """From 0 to 1."""
    prices: Mapping[str, int] = field(default_factory=dict, repr=False)
    """What each account costs, in picodollars per token; 0 for one that is not there."""
    suits: Suits = field(default=_suits_all, repr=False)
    """Whether an account reads the options and the input type as they are meant."""
    closed_s: Callable[[str], float] = field(default=_is_open, repr=False)
    """How long an account's own limits let nothing through: calls would only wait there."""

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        account = self.choose(request)
        health = self.health[account]
        begun = health.begin()
        try:
            response = await self.accounts[account](request)
        except EmbedError as error:
            was = health.state
            health.fail(begun, error)
            if was == "closed" and health.state != "closed":
                # The code alone: a provider's words may quote the caller's.
                _log.warning("%s is left alone for %s: %s", account, self.model, error.code)
            raise
        except BaseException:
            health.abandon(begun)
            raise
        health.succeed(begun)
        if begun.is_probe:
            _log.warning("%s serves %s again", account, self.model)
        return response

    def elsewhere(self, request: EmbedRequest) -> int:
        """How many accounts could serve now that the call does not avoid."""
        return sum(
            name not in request.call.avoid and not self.health[name].wait_s
            for name in self._allowed(request)
        )

    def wait_s(self, request: EmbedRequest) -> float:
        """How long until the first of the accounts could serve; 0 if one can."""
        return min(self.health[name].wait_s for name in self._allowed(request))

    def choose(self, request: EmbedRequest) -> str:
        """The account to ask. Raises InvalidRequest if none is allowed, an UpstreamError if none
        is well."""
        call, allowed = request.call, self._allowed(request)
        ready = [name for name in allowed if not self.health[name].wait_s]
        if not ready and call.credentials:
            ready = [name for name in allowed if self.health[name].is_ours_alone]
        if not ready:
            raise self._nobody(allowed)
        ready = [name for name in ready if name not in call.avoid] or ready
        ready = [name for name in ready if not self.closed_s(name)] or ready
        for name in call.order:
            if name in ready:
                return name
        if len(ready) == 1:
            return ready[0]
        if call.sort == "cost":
            return min(ready, key=lambda name: self.prices.get(name, 0))
        if call.sort == "latency":  # one that was never asked gets its chance first
            return min(ready, key=lambda name: self.health[name].milliseconds or 0.0)
        # Whoever was ill is tried as soon as it may be well again, or it would never come back.
        due = [name for name in ready if self.health[name].is_probe_due]
        return due[0] if due else self._less_busy(ready)

    def _less_busy(self, ready: Sequence[str]) -> str:
        """Of two that are drawn, the one with less in flight, then the faster one: nearly as good
        as looking at all, and many gateways do not all run to the same one (Mitzenmacher)."""
        first = int(self.random() * len(ready)) % len(ready)
        second = (first + 1 + int(self.random() * (len(ready) - 1))) % len(ready)
        return min(
            (ready[first], ready[second]),
            key=lambda name: (
                self.health[name].in_flight,
                self.health[name].milliseconds or 0.0,
            ),
        )

    def allowed(self, only: Collection[str], params: EmbedParams) -> Sequence[str]:
        """Who may be asked of *only* (of all, if there is none), well or not. Raises
        InvalidRequest if nobody may."""
        allowed = [name for name in self.accounts if not only or name in only]
        if not allowed:
            raise InvalidRequest(
                f"No provider among {', '.join(only)} serves {self.model}; "
                f"it is served by {', '.join(self.accounts)}.",
                param="provider",
            )
        return [name for name in allowed if self.suits(name, params)] or allowed

    def _allowed(self, request: EmbedRequest) -> Sequence[str]:
        return self.allowed(request.call.only, request.params)

    def _nobody(self, allowed: Sequence[str]) -> UpstreamError:
        """Why none can be asked now, and when one can."""
        wait = min(self.health[name].wait_s for name in allowed)
        names = ", ".join(allowed)
        full = [name for name in allowed if self.health[name].is_full]
        if full:
            return UpstreamRateLimited(
                f"{names}: the limit of this gateway's account is reached; try again in "
                f"{wait:.1f} s.",
                provider=full[0],
                retry_after_s=wait,
            )
        last = {name: self.health[name].last_error for name in allowed}
        # A refused credential is news for the operator, but for callers the others matter more.
        name = min(allowed, key=lambda name: isinstance(last[name], UpstreamUnauthorized))
        error = last[name]
        if isinstance(error, UpstreamUnauthorized):
            return UpstreamUnauthorized(error.message, provider=name)
        told = f" The last error: {error.message}" if error is not None else ""
        return UpstreamUnavailable(
            f"{names} failed again and again and is left alone for {wait:.1f} s.{told}",
            provider=name,
            retry_after_s=wait,
        )
