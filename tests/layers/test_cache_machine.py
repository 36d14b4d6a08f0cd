"""The cache as a machine: anything in any order, compared with a plain list of what was made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec import Struct
from msgspec.structs import replace

from embedway.cache_key import scope_of
from embedway.cached import Cached, Damaged, Key, Label, Selection, pack, unpack
from embedway.catalog import Dimensions
from embedway.catalog_file import load_catalog
from embedway.errors import UpstreamUnavailable
from embedway.layers.cache import Cache
from embedway.spaces import space_of
from embedway.store.recent import RecentVectors
from embedway.types import Embedding, EmbedParams, EmbedRequest, EmbedResponse, Input, Vector
from embedway.vectors import truncate
from tests.fakes import FakeClock, allowing, make_grant, make_params, make_request, make_vector
from tests.store.store_laws import DAMAGES, Counts, Damage

TTL_S = 1000.0
WIDTH = 8
PLAIN = load_catalog().models[0]
MATRYOSHKA = replace(PLAIN, dimensions=Dimensions(default=WIDTH, minimum=1, maximum=8, cut=True))
PRICE = 5
ACCOUNTS = {"first": b"origin_1", "second": b"origin_2"}


class PackedStore:
    """A store in a dictionary of packed values, which can be damaged, and slow to write."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.values: dict[Key, tuple[Label, bytes]] = {}
        self.waiting: dict[Key, tuple[Label, bytes]] = {}
        self.is_slow = False

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        """What was written, whole and young enough."""
        await asyncio.sleep(0)
        found = {}
        for key in keys:
            if key not in self.values:
                continue
            assert self.values[key][0] == label, "a key has one label"
            try:
                cached = unpack(key, self.values[key][1])
            except Damaged:
                del self.values[key]
                continue
            if cached.created_s + TTL_S > self.clock.now():
                found[key] = cached
        return found

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        """Write now, or soon."""
        self.waiting |= {key: (label, pack(key, cached)) for key, cached in entries}
        if not self.is_slow:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        self.values |= self.waiting
        self.waiting = {}

    def purge(self, selection: Selection) -> None:
        """Forget what is meant, also what waits."""
        for kept in (self.values, self.waiting):
            for key in [key for key, (label, _) in kept.items() if selection.holds(label)]:
                del kept[key]


class Made(Struct, frozen=True):
    """What the model remembers of one embedding that was made."""

    label: Label
    params: EmbedParams
    value: Input
    account: str
    number: int
    """Each has its own; it stands in the tokens."""
    created_s: int


class Provider:
    """Both accounts. They read options differently, so that their vectors differ then."""

    def __init__(self) -> None:
        self.number = 0
        self.fails_at: Input | None = None
        self.made: list[tuple[Input, str, int]] = []
        self.requests: list[EmbedRequest] = []

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        """Embed all, or all but one."""
        self.requests.append(request)
        account = request.call.only[0] if request.call.only else "first"
        embeddings = {}
        for position, value in enumerate(request.inputs):
            if value == self.fails_at:
                continue
            self.number += 1
            vector = right_vector(request.params, value, account)
            embeddings[position] = Embedding(vector, self.number, account, PRICE)
            self.made.append((value, account, self.number))
        if len(embeddings) == len(request.inputs):
            return EmbedResponse(params=request.params, embeddings=tuple(embeddings.values()))
        at = f"input[{request.inputs.index(self.fails_at)}]"
        error = UpstreamUnavailable(f"{at} failed", provider=account, param=at)
        error.finished = embeddings
        raise error


def right_vector(params: EmbedParams, value: Input, account: str) -> Vector:
    """What an account makes of an input."""
    options = params.options + account.encode() if params.options else b""
    return make_vector(value, replace(params, options=options), WIDTH)


INPUTS = st.lists(st.sampled_from(["a", "a", "A", (1, 2)]), min_size=1, max_size=5)
PARAMS = st.builds(
    make_params,
    st.just(PLAIN.id),
    dimensions=st.sampled_from((None, WIDTH, WIDTH, 3, 5)),
    input_type=st.sampled_from((None, None, None, "query")),
    options=st.sampled_from((b"", b'{"cohere":{"truncate":"END"}}')),
)
GRANTS = st.sampled_from(
    [make_grant(key_id=key, project=project) for key, project in ("kx", "kx", "kx", "lx", "ky")]
)
MODES = st.sampled_from(("use", "use", "use", "skip", "refresh"))
WHICH = st.integers(0, 2)
ONLY = st.sampled_from(((), (), ("first",), ("second",)))


class CacheLaws(RuleBasedStateMachine):
    """A cache with its memory and perhaps a store, over two accounts."""

    @initialize(
        scope=st.sampled_from(("project", "key", "global")),
        is_matryoshka=st.booleans(),
        has_store=st.booleans(),
        is_tiny=st.booleans(),
        params=st.lists(PARAMS, min_size=3, max_size=3),
    )
    def begin(
        self, scope: Any, is_matryoshka: bool, has_store: bool, is_tiny: bool, params: Any
    ) -> None:
        """Build one. Few parameters are asked for, so that they meet again."""
        self.params = params
        self.runner = asyncio.Runner()
        self.clock, self.counts, self.provider = FakeClock(), Counts(), Provider()
        self.scope, self.is_tiny = scope, is_tiny
        self.model = MATRYOSHKA if is_matryoshka else PLAIN
        self.store = PackedStore(self.clock) if has_store else None
        self.known: list[Made] = []
        """All that was made, kept and not purged, oldest first; also what is too old."""
        self.was_slow = self.has_lost = False
        self.restart()

    def teardown(self) -> None:
        """What is kept in memory is never more than allowed."""
        assert self.recent.bytes <= self.recent.max_bytes
        self.runner.close()

    @rule()
    def restart(self) -> None:
        """A new process knows what the store has."""
        max_bytes = 1000 if self.is_tiny else 2**20
        self.recent = RecentVectors(
            max_bytes=max_bytes, ttl_s=TTL_S, clock=self.clock, count=self.counts
        )
        self.cache = Cache(
            self.provider,
            self.model,
            self.recent,
            self.store,
            ACCOUNTS,
            allowing(ACCOUNTS),
            self.scope,
            self.clock,
            self.counts,
        )

    @rule(inputs=INPUTS, params=WHICH, grant=GRANTS, mode=MODES, only=ONLY)
    def ask(self, inputs: Any, params: Any, grant: Any, mode: Any, only: Any) -> None:
        """Every vector is right, and only what may be known comes from the cache; asked again at
        once nothing costs anything."""
        request = make_request(
            *inputs, params=self.params[params], grant=grant, cache=mode, only=only
        )
        self.check(request, self.run(request))
        has_room = not self.is_tiny or (self.store is not None and not self.has_lost)
        if mode == "skip" or not has_room:
            return
        again = replace(request, call=replace(request.call, cache="use"))
        asked = len(self.provider.requests)
        response = self.run(again)
        self.check(again, response)
        assert len(self.provider.requests) == asked
        assert all(one.source == "cache" for one in response.embeddings)

    @rule(inputs=INPUTS, params=WHICH, grant=GRANTS, mode=MODES, only=ONLY, data=st.data())
    def ask_and_fail(
        self, inputs: Any, params: Any, grant: Any, mode: Any, only: Any, data: st.DataObject
    ) -> None:
        """An error names the caller's input, and what was finished beside it is kept; what is
        known cannot fail."""
        request = make_request(
            *inputs, params=self.params[params], grant=grant, only=only, cache=mode
        )
        bad = self.provider.fails_at = data.draw(st.sampled_from(inputs))
        failed: UpstreamUnavailable | None = None
        try:
            self.check(request, self.run(request))
        except UpstreamUnavailable as error:
            failed = error
        finally:
            self.provider.fails_at = None
        if failed is None:
            return
        assert failed.param == f"input[{inputs.index(bad)}]"
        for position, embedding in failed.finished.items():
            assert inputs[position] != bad
            assert (inputs[position], *_made(embedding)) in self.provider.made
            right = self.right(request, inputs[position], embedding.source)
            assert embedding.vector == right

    @rule(seconds=st.sampled_from((0.5, 60.0, 499.0, 1000.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule(
        space=st.sampled_from((None, str(space_of(PLAIN, make_params(dimensions=WIDTH))))),
        project=st.sampled_from((None, "x", "key:k", "*")),
    )
    def purge(self, space: str | None, project: str | None) -> None:
        """What a purge means is gone, here and in the store."""
        selection = Selection(space=space, project=project)
        if self.store is not None:
            self.store.purge(selection)
        self.recent.purge(selection)
        self.known = [made for made in self.known if not selection.holds(made.label)]

    @precondition(lambda self: self.store is not None and self.store.values)
    @rule(data=st.data(), how=DAMAGES)
    def damage(self, data: st.DataObject, how: Damage) -> None:
        """A value in the store is changed, or is that of another key."""
        assert self.store is not None
        keys = st.sampled_from(sorted(self.store.values))
        key, other = data.draw(keys), data.draw(keys)
        label, value = self.store.values[key]
        changed = how(value) if key == other else self.store.values[other][1]
        self.store.values[key] = (label, changed)
        self.has_lost = True

    @precondition(lambda self: self.store is not None)
    @rule(is_slow=st.booleans())
    def change_speed(self, is_slow: bool) -> None:
        """The store begins to write late, or catches up."""
        assert self.store is not None
        self.store.is_slow = is_slow
        self.was_slow |= is_slow
        self.has_lost |= is_slow
        if not is_slow:
            self.store.write()

    @precondition(lambda self: self.store is not None)
    @rule()
    def empty(self) -> None:
        """The store loses all it has."""
        assert self.store is not None
        self.store.purge(Selection())
        self.has_lost = True

    def full(self, params: EmbedParams) -> EmbedParams:
        """The parameters that are truly asked for."""
        if params.dimensions and self.model.dimensions.cut:
            return replace(params, dimensions=WIDTH)
        return params

    def label(self, request: EmbedRequest) -> Label:
        """Under which label the answer is kept."""
        space = str(space_of(self.model, self.full(request.params)))
        return Label(self.model.id, space, scope_of(request.call.grant, self.scope))

    def right(self, request: EmbedRequest, value: Input, account: str) -> Vector:
        """The vector that the caller must get if *account* serves him."""
        vector = right_vector(self.full(request.params), value, account)
        wanted = request.params.dimensions or WIDTH
        return truncate(vector, wanted) if 4 * wanted != len(vector) else vector

    def run(self, request: EmbedRequest) -> EmbedResponse:
        """Ask, and remember what was made and kept."""
        self.may_be_known = list(self.known)
        self.provider.made = []
        try:
            return self.runner.run(self.ask_cache(request))
        finally:
            if request.call.cache != "skip":
                label, params = self.label(request), self.full(request.params)
                now = int(self.clock.now())
                self.known += [Made(label, params, *made, now) for made in self.provider.made]

    async def ask_cache(self, request: EmbedRequest) -> EmbedResponse:
        """The cache's answer, as a coroutine of our own."""
        return await self.cache(request)

    def check(self, request: EmbedRequest, response: EmbedResponse) -> None:
        """Each embedding is one that the model allows."""
        assert response.params == request.params
        assert len(response.embeddings) == len(request.inputs)
        for value, embedding in zip(request.inputs, response.embeddings, strict=True):
            if embedding.source == "cache":
                self.check_hit(request, value, embedding)
            else:
                assert (value, *_made(embedding)) in self.provider.made
                assert embedding.cost == PRICE
                assert not request.call.only or embedding.source in request.call.only
                assert embedding.vector == self.right(request, value, embedding.source)

    def check_hit(self, request: EmbedRequest, value: Input, embedding: Embedding) -> None:
        """A hit is free, and was made for this very question, by an account that may serve it, not
        too long ago; it is the newest such unless a slow store could not know that."""
        assert (request.call.cache, embedding.cost) == ("use", 0)
        label, params = self.label(request), self.full(request.params)
        versions = [
            made
            for made in self.may_be_known
            if (made.label, made.params, made.value) == (label, params, value)
        ]
        [found] = [made for made in versions if made.number == embedding.tokens]
        assert found.created_s + TTL_S > self.clock.now()
        if request.params.options and request.call.only:
            assert found.account in request.call.only
        assert embedding.vector == self.right(request, value, found.account)
        if not self.was_slow:
            assert found is versions[-1]


def _made(embedding: Embedding) -> tuple[str, int]:
    return embedding.source, embedding.tokens


CacheLaws.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestCacheLaws = CacheLaws.TestCase
