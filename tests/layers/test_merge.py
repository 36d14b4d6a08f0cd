"""Cache, coalesce, batch, split and limit together: whatever happens, every answer is right."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from embedway.catalog_file import load_catalog
from embedway.errors import EmbedError, UpstreamRejected, UpstreamTooLarge, UpstreamUnavailable
from embedway.headroom import Headroom
from embedway.layers.batch import Batch
from embedway.layers.cache import Cache
from embedway.layers.coalesce import Coalesce
from embedway.layers.limit import Limit
from embedway.layers.split import Split
from embedway.parts import Limits
from embedway.store.recent import RecentVectors
from embedway.types import CACHED, EmbedResponse, replace
from tests.fakes import FakeClock, allowing, make_attempt, make_call, make_grant, make_request
from tests.layers.held import Bill, HeldCall, proof_of

MODEL = "openai/text-embedding-3-small"
FOUND = load_catalog().find(MODEL)
ORIGINS = {"openai": b"12345678"}
SLOTS = 2


class Provider:
    """Holds every call until the test lets it go, and then answers by its own rules: it takes so
    many inputs at once, dislikes texts that begin with "bad", and is down when it is told so."""

    def __init__(self, most: int, tells: bool, names: bool) -> None:
        self.most = most
        self.tells = tells
        """Whether it says how many inputs it takes."""
        self.names = names
        """Whether it says which input is bad."""
        self.bill = Bill()
        self.held: list[HeldCall] = []
        self.most_at_once = 0

    async def __call__(self, request: Any, /) -> EmbedResponse:
        """Wait for the test, then answer."""
        call = HeldCall(request, self.bill)
        self.held.append(call)
        self.most_at_once = max(self.most_at_once, len(self.held))
        try:
            return await call.outcome
        finally:
            self.held = [one for one in self.held if one is not call]

    def let_go(self, which: int, is_down: bool = False) -> None:
        """End one of the calls that wait."""
        calls = [call for call in self.held if not call.outcome.done()]
        if not calls:
            return
        call = calls[which % len(calls)]
        if (error := self.trouble(call.request.inputs, is_down)) is None:
            call.answer()
            return
        error.attempts = (make_attempt(is_success=False),)
        call.fail(error)

    def trouble(self, inputs: tuple[Any, ...], is_down: bool) -> EmbedError | None:
        """Why it does not answer, if it does not."""
        if is_down:
            return UpstreamUnavailable("down", provider="openai")
        if len(inputs) > self.most:
            large = UpstreamTooLarge("too many", provider="openai")
            large.counts_inputs = True
            large.max_inputs = self.most if self.tells else None
            return large
        bad = [i for i, text in enumerate(inputs) if text.startswith("bad")]
        if not bad:
            return None
        param = f"input[{bad[0]}]" if self.names else None
        return UpstreamRejected(f"{param or 'something'} is bad", provider="openai", param=param)


class Play:
    """The layers in their order, and callers."""

    def __init__(self, provider: Provider, max_inputs: int) -> None:
        assert FOUND is not None
        clock = FakeClock()
        ignore = lambda event, number: None  # noqa: E731
        self.provider = provider
        limit = Limit(provider, "openai", Headroom(clock, SLOTS), clock, lambda request: 0)
        self.split = Split(limit, Limits(inputs=max_inputs))
        self.batch = Batch(self.split, slots=lambda: SLOTS, max_inputs=max_inputs)
        self.coalesce = Coalesce(self.batch, "project", ignore)
        recent = RecentVectors(max_bytes=2**20, ttl_s=0, clock=clock, count=ignore)
        self.cache = Cache(
            self.coalesce,
            FOUND.model,
            recent,
            None,
            ORIGINS,
            allowing(ORIGINS),
            "project",
            clock,
            ignore,
        )
        self.callers: list[tuple[Any, asyncio.Task[EmbedResponse]]] = []

    def step(self, verb: str, what: Any, more: Any) -> None:
        """One thing that happens."""
        if verb == "ask":
            user, project, mode = more
            call = make_call(user=user, grant=make_grant(project=project), cache=mode)
            request = make_request(*what, model=MODEL, call=call)
            self.callers.append((request, asyncio.create_task(self.cache(request))))
        elif verb == "leave" and self.callers:
            self.callers[what % len(self.callers)][1].cancel()
        elif verb in ("answer", "fail"):
            self.provider.let_go(what, is_down=verb == "fail")

    async def run(self, steps: Any) -> None:
        """All steps, with others' turns between them; then answers until nobody waits."""
        for verb, what, more, turns in steps:
            self.step(verb, what, more)
            for _ in range(turns):
                await asyncio.sleep(0)
        while not all(task.done() for _, task in self.callers) or self.batch._running:
            self.provider.let_go(0)
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)

    def check(self, is_exact: bool) -> None:
        """The laws."""
        paid = 0
        for request, task in self.callers:
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                found = dict(enumerate(task.result().embeddings))
                assert len(found) == len(request.inputs)
                assert not any(text.startswith("bad") for text in request.inputs)
            else:
                check_error(error, request)
                found = error.finished
            for position, embedding in found.items():
                assert embedding.vector == proof_of(request.inputs[position], request)
                assert embedding.cost == 0 or embedding.source != CACHED
            paid += sum(embedding.cost for embedding in found.values())
        billed = self.provider.bill.billed
        assert paid == billed or (not is_exact and paid < billed)
        assert self.provider.most_at_once <= SLOTS
        assert [*self.coalesce._asked, *self.batch._waiting.line, *self.provider.held] == []

    async def check_what_is_kept(self) -> None:
        """Whoever asks once more for what was answered gets it at once, and free."""
        for request, task in self.callers:
            if task.cancelled() or task.exception() or request.call.cache == "skip":
                continue
            again = replace(request, call=replace(request.call, cache="use"))
            response = await self.cache(again)  # it would hang if the provider were asked
            assert [(e.source, e.cost) for e in response.embeddings] == [(CACHED, 0)] * len(
                request.inputs
            )


def check_error(error: Any, request: Any) -> None:
    """It is one that the provider gave, and blames only a bad text of the caller's own."""
    assert isinstance(error, (UpstreamRejected, UpstreamUnavailable))
    if isinstance(error, UpstreamRejected):
        assert any(text.startswith("bad") for text in request.inputs)
    if error.param is not None:
        assert request.inputs[int(error.param[6:-1])].startswith("bad")


TEXTS = st.sampled_from(["a", "b", "c", "d", "e", "f", "bad 1", "bad 2"])
ASKED = st.tuples(
    st.just("ask"),
    st.lists(TEXTS, min_size=1, max_size=6),
    st.tuples(
        st.sampled_from([None, "u"]),
        st.sampled_from(["p", "q"]),
        st.sampled_from(["use", "use", "skip", "refresh"]),
    ),
    st.integers(0, 8),
)
ENDED = st.tuples(
    st.sampled_from(["answer", "answer", "answer", "fail"]),
    st.integers(0, 3),
    st.none(),
    st.integers(0, 8),
)
LEFT = st.tuples(st.just("leave"), st.integers(0, 9), st.none(), st.integers(0, 8))
PROVIDER = {
    "most": st.integers(1, 6),
    "tells": st.booleans(),
    "names": st.booleans(),
    "max_inputs": st.integers(1, 6),
}


def play(steps, most, tells, names, max_inputs, is_exact):
    """Play the steps, and check the laws."""

    async def run():
        played = Play(Provider(most, tells, names), max_inputs)
        await played.run(steps)
        played.check(is_exact)
        await asyncio.wait_for(played.check_what_is_kept(), 5)

    asyncio.run(run())


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(st.one_of(ASKED, ASKED, ENDED), max_size=20), **PROVIDER)
def test_whoever_asks_whatever(steps, most, tells, names, max_inputs):
    """Whatever is asked at the same time, known already, bad or down, and whichever call ends
    first: every caller gets his own vectors or an error about his own texts, all costs together
    are the provider's bill exactly, and what was answered is known from then on."""
    play(steps, most, tells, names, max_inputs, is_exact=True)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.one_of(ASKED, ENDED, LEFT), max_size=20), **PROVIDER)
def test_whoever_leaves(steps, most, tells, names, max_inputs):
    """Callers who leave disturb nobody, nothing stays behind, and no cost is paid twice."""
    play(steps, most, tells, names, max_inputs, is_exact=False)
