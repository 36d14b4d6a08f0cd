"""At most so many calls to one account at a time, and a minute; whoever waits waits in turn.

One for each deployment, below `split`: it counts what truly leaves. Keys take turns, so that one
that asks for much does not keep the others waiting; the line is bounded. Nobody waits for what
comes after his deadline: he is told at once, so that another account may be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from embedway.clock import Clock
from embedway.errors import EmbedError, Overloaded, UpstreamRateLimited, UpstreamTimeout
from embedway.headroom import Headroom
from embedway.line import Line
from embedway.types import Attempt, Embedder, EmbedRequest, EmbedResponse

_SHORTEST_SLEEP_S = 0.001
"""Less could be too little to show on the clock, and would be slept for ever."""


class _Turn:
    """A call that waits."""

    __slots__ = ("come", "deadline", "key", "tokens")

    def __init__(self, request: EmbedRequest, tokens: int) -> None:
        self.come: asyncio.Future[float | EmbedError] = asyncio.get_running_loop().create_future()
        """When it began; or why it never will."""
        self.key = request.call.grant.key_id
        self.deadline = request.call.deadline
        self.tokens = tokens

    def refuse(self, error: EmbedError) -> None:
        """It never will; whoever has gone is not told."""
        if not self.come.done():
            self.come.set_result(error)


class _Alarm:
    """The one timer: calls *ring* after a while."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._rings_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def set(self, seconds: float) -> None:
        """At the latest after so many seconds."""
        rings_at = self._clock.monotonic() + seconds
        if self._task is None or rings_at < self._rings_at:
            self.stop()
            self._rings_at = rings_at
            self._task = asyncio.create_task(self._sleep(max(seconds, _SHORTEST_SLEEP_S)))

    def stop(self) -> None:
        """Nobody waits for time any more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._task = None
        self._ring()


@dataclass(frozen=True, eq=False)
class Limit:
    """Lets calls of *inner* go as the account's headroom allows."""

    inner: Embedder
    account: str
    headroom: Headroom = field(repr=False)
    clock: Clock = field(repr=False)
    weigh: Callable[[EmbedRequest], int] = field(repr=False)
    """About how many tokens a request has."""
    max_waiting: int = 1024
    _line: Line[_Turn] = field(init=False, repr=False, default_factory=Line)
    _alarm: _Alarm = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_alarm", _Alarm(self.clock, self._go_on))

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        tokens = self.weigh(request) if self.headroom.counts_tokens else 0
        if self._line.length or self.headroom.wait_s(tokens) != 0.0:
            started = await self._wait(request, tokens)
        else:
            started = self.headroom.begin(tokens)
        try:
            response = await self.inner(request)
        except BaseException as error:
            self._note_failure(request, started, error)
            raise
        self._note_answer(started, response)
        return response

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        return self._line.length

    async def _wait(self, request: EmbedRequest, tokens: int) -> float:
        """Until the call may begin; returns its start."""
        turn = _Turn(request, tokens)
        if self._is_hopeless(turn, closed_s := self.headroom.closed_s):
            raise self._limited(closed_s)
        if self._line.length >= self.max_waiting:
            self._make_room(turn)
        self._line.join(turn)
        if self._line.length == 1:  # else those before it see to it that it goes on
            self._go_on()
        try:
            come = await turn.come
        except asyncio.CancelledError:
            self._leave(turn)
            raise
        if isinstance(come, EmbedError):
            raise come
        return come

    def _leave(self, turn: _Turn) -> None:
        """The caller has gone."""
        if turn.come.cancelled():
            self._line.leave(turn)
        elif isinstance(turn.come.result(), float):  # his turn had just come: he gives it back
            self.headroom.abandon()
        self._go_on()

    def _note_answer(self, started: float, response: EmbedResponse) -> None:
        attempt = response.attempts[-1] if response.attempts else None
        if _is_foreign(attempt):
            self.headroom.abandon()
        else:
            self.headroom.succeed(started, attempt.told if attempt else None)
        self._go_on()

    def _note_failure(self, request: EmbedRequest, started: float, error: BaseException) -> None:
        attempts = error.attempts if isinstance(error, EmbedError) else ()
        attempt = attempts[-1] if attempts else None
        # Whoever is cancelled at his deadline was waiting for an answer until then.
        is_over = self.clock.monotonic() >= request.call.deadline
        is_late = isinstance(error, asyncio.CancelledError) and is_over
        if _is_foreign(attempt) or not (is_late or isinstance(error, EmbedError)):
            self.headroom.abandon()
        elif is_late or isinstance(error, UpstreamTimeout):
            self.headroom.time_out(started)
        elif isinstance(error, EmbedError):
            self.headroom.fail(error, attempt.told if attempt else None)
        self._go_on()

    def _go_on(self) -> None:
        """Let go whoever may; for those who must wait for time alone, wait once."""
        while (turn := self._line.first) is not None:
            if turn.come.done():  # he is about to leave
                self._line.leave(turn)
                continue
            wait_s = self.headroom.wait_s(turn.tokens)
            if wait_s is None:  # the end of a call will go on
                break
            if wait_s > 0.0:
                self._refuse_hopeless()
                if self._line.first is turn:
                    self._alarm.set(wait_s)
                    return
                continue
            self._line.take(turn)
            turn.come.set_result(self.headroom.begin(turn.tokens))
        self._alarm.stop()

    def _is_hopeless(self, turn: _Turn, closed_s: float) -> bool:
        return closed_s > 0.0 and self.clock.monotonic() + closed_s >= turn.deadline

    def _refuse_hopeless(self) -> None:
        """All whose time will be over before the account takes anything again."""
        closed_s = self.headroom.closed_s
        for turn in [one for one in self._line if self._is_hopeless(one, closed_s)]:
            self._line.leave(turn)
            turn.refuse(self._limited(closed_s))

    def _limited(self, closed_s: float) -> UpstreamRateLimited:
        return UpstreamRateLimited(
            f"{self.account}: the limit of this gateway's account is reached; try again in "
            f"{closed_s:.1f} s.",
            provider=self.account,
            retry_after_s=closed_s,
        )

    def _make_room(self, newcomer: _Turn) -> None:
        """The line is full: who waits last of the greediest key goes. Raises Overloaded if that is
        the newcomer."""
        calls, tokens = self._line.length, sum(turn.tokens for turn in self._line)
        refusal = Overloaded(
            f"{calls} calls already wait for {self.account}; try again later.",
            retry_after_s=self.headroom.drain_s(calls, tokens),
        )
        turn = self._line.greediest(newcomer)
        if turn is newcomer:
            raise refusal
        self._line.leave(turn)
        turn.refuse(refusal)


def _is_foreign(attempt: Attempt | None) -> bool:
    """Whether the call was made under the caller's own credential: the limits of that account say
    nothing of ours."""
    return attempt is not None and attempt.credential_type == "byok"
