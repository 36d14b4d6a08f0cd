"""How fast each key may ask: requests and tokens a minute, and requests at a time.

The minute is one that moves: whatever 60 seconds are looked at, no more than the limit was let
through in them. A minute that begins anew on the clock would let through twice as much around its
beginning, and a bucket that fills up again nearly twice.

A window may hold a bounded number of entries (`most_units`). A limit above that is counted in
grains of several requests or tokens: a process takes a whole grain and uses it up before it takes
the next, so that the count is at most one grain a process off.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal, Protocol

from msgspec import Struct

from embedway.clock import Clock
from embedway.errors import RateLimited, TooMuchAtOnce
from embedway.parts import size_of
from embedway.recently import Recently
from embedway.types import Call, Grant, Input

MINUTE_S = 60.0
_BYTES_PER_TOKEN = 4
"""About what English text has; the true number is known only after the answer."""
_GRACE_S = 5.0
"""How long after its deadline a request may still be on its way out."""
_TURN_S = 1.0
"""When a place may be free again; nobody knows better."""

Kind = Literal["requests", "tokens"]


class Left(Struct, frozen=True):
    """What is left of a window. `reset_s`: seconds until its oldest entry no longer counts, which
    is when something comes back; 0 for an empty window."""

    units: int
    reset_s: float


class Allowance(Struct, frozen=True):
    """How one limit of a key stands. `reset_s`: seconds until something of it comes back."""

    kind: Kind
    limit: int
    remaining: int
    reset_s: float


class RateStore(Protocol):
    """Counts for one process or for several. Never raises but for cancellation: where it cannot
    count it lets everybody through."""

    most_units: int | None
    """How many entries a window may hold; None: any number."""

    async def take(self, name: str, limit: int, units: int, /) -> bool:
        """Take *units* at once from the window of *name*, or, where they are too many, none."""
        ...

    async def wait_s(self, name: str, limit: int, units: int, /) -> float:
        """How many seconds until there is room for that many."""
        ...

    async def left(self, name: str, limit: int, /) -> Left:
        """What is left, as far as this process knows it: nobody is asked."""
        ...

    async def enter(self, name: str, limit: int, id: str, hold_s: float, /) -> bool:
        """Take one of *limit* places for the request *id*, for *hold_s* seconds at most. False,
        where none is free."""
        ...

    def leave(self, name: str, id: str, /) -> None:
        """Give it back, soon."""
        ...

    async def close(self) -> None:
        """Let go, within a bounded time."""
        ...


class _Count:
    """What this process has used of one window beside what it has taken from it."""

    __slots__ = ("owed",)

    def __init__(self) -> None:
        self.owed = 0
        """Used and not yet taken; below zero what was taken and not used."""

    def use(self, amount: int, grain: int, most: int) -> int:
        """How many units must be taken for so much more."""
        units = min(most, max(0, -(-(self.owed + amount) // grain)))
        self.owed += amount - units * grain
        return units


class KeyRates:
    """Keeps each key to its rates. For one event loop.

    Tokens are taken by estimate when a request arrives; what was used in truth is made up for with
    the key's next request.
    """

    def __init__(self, store: RateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counts: Recently[_Count] = Recently(_Count, MINUTE_S, clock.monotonic)

    async def enter(self, call: Call, tokens: int) -> None:
        """Let a request in that has about so many *tokens*. Raises RateLimited.

        Whoever was let in must `leave`. A request that is refused for its tokens counts as one.
        """
        grant, rates = call.grant, call.grant.rates
        if rates.concurrency is not None:
            hold_s = call.deadline - self._clock.monotonic() + _GRACE_S
            if not await self._store.enter(grant.key_id, rates.concurrency, call.id, hold_s):
                number = _number(rates.concurrency, "requests")
                raise RateLimited(
                    f"The key {grant.name!r} may have {number} at a time, and has; wait for an "
                    "answer before you send the next.",
                    retry_after_s=_TURN_S,
                )
        try:
            if rates.requests_per_minute is not None:
                await self._take(grant, "requests", rates.requests_per_minute, 1)
            if rates.tokens_per_minute is not None:
                await self._take(grant, "tokens", rates.tokens_per_minute, tokens)
        except BaseException:
            self._give_back(call)
            raise

    def leave(self, call: Call, tokens: int, used: int) -> None:
        """The request is over; it *used* so many tokens in place of the estimate."""
        self._give_back(call)
        if call.grant.rates.tokens_per_minute is not None:
            self._counts.get(_name(call.grant, "tokens")).owed += used - tokens

    def _give_back(self, call: Call) -> None:
        if call.grant.rates.concurrency is not None:
            self._store.leave(call.grant.key_id, call.id)

    async def _take(self, grant: Grant, kind: Kind, limit: int, amount: int) -> None:
        if amount > limit:
            raise TooMuchAtOnce(
                f"This request has about {_number(amount, kind)}, and the key {grant.name!r} may "
                f"send {limit} a minute; send fewer inputs at once."
            )
        name, grain = _name(grant, kind), self._grain(limit)
        most, count = limit // grain, self._counts.get(name)
        # Before anybody else runs: two requests must not use up the same grain.
        units = count.use(amount, grain, most)
        if units == 0 or await self._store.take(name, most, units):
            return
        count.owed += units * grain - amount
        wait_s = await self._store.wait_s(name, most, units)
        needs = "" if kind == "requests" else f" This request has about {amount}."
        raise RateLimited(
            f"The key {grant.name!r} may send {_number(limit, kind)} a minute, and has no room for "
            f"more now.{needs} Try again in {max(1, ceil(wait_s))} s.",
            retry_after_s=wait_s,
        )

    def _grain(self, limit: int) -> int:
        most = self._store.most_units
        return 1 if most is None else max(1, -(-limit // most))

    async def allowances(self, grant: Grant) -> list[Allowance]:
        """How the key's limits stand, as this process last saw them."""
        found = []
        limits: tuple[tuple[Kind, int | None], ...] = (
            ("requests", grant.rates.requests_per_minute),
            ("tokens", grant.rates.tokens_per_minute),
        )
        for kind, limit in limits:
            if limit is None:
                continue
            name, grain = _name(grant, kind), self._grain(limit)
            left = await self._store.left(name, limit // grain)
            remaining = left.units * grain - self._counts.get(name).owed
            found.append(Allowance(kind, limit, max(0, min(limit, remaining)), left.reset_s))
        return found

    async def close(self) -> None:
        """Let go of the store, within a bounded time."""
        await self._store.close()


def about_tokens(inputs: Sequence[Input]) -> int:
    """About how many tokens the inputs have, at least one each; exact for token ids."""
    return sum(
        [
            -(-size_of(value) // _BYTES_PER_TOKEN) or 1 if isinstance(value, str) else len(value)
            for value in inputs
        ]
    )


def _number(count: int, kind: Kind) -> str:
    return f"{count} {kind if count != 1 else kind[:-1]}"


def _name(grant: Grant, kind: Kind) -> str:
    return f"{kind}/{grant.key_id}"
