"""What is known is answered, the rest is asked for and kept."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from embedway.cached import Selection
from embedway.catalog import Dimensions
from embedway.catalog_file import load_catalog
from embedway.errors import (
    UnsupportedDimensions,
    UpstreamInputTooLong,
    UpstreamUnavailable,
)
from embedway.layers.cache import Cache
from embedway.store.recent import RecentVectors
from embedway.types import Embedding
from embedway.vectors import from_numbers, truncate
from tests.fakes import (
    FakeClock,
    ScriptedEmbedder,
    allowing,
    make_attempt,
    make_grant,
    make_params,
    make_request,
    make_vector,
    respond,
    until,
)
from tests.memory_store import MemoryStore
from tests.store.store_laws import Counts

MODEL = load_catalog().models[0]
CUT = changed(MODEL, dimensions=Dimensions(default=8, minimum=1, maximum=16, cut=True))
ORIGINS = {"scripted": b"scripted", "other": b"originof"}


class Asked:
    """A cache over a scripted Embedder, with a memory and, if wanted, a store."""

    def __init__(
        self, answers=(), *, model=MODEL, store=True, origins=ORIGINS, scope="project", allowed=None
    ):
        self.clock, self.counts = FakeClock(), Counts()
        self.inner = ScriptedEmbedder(answers)
        self.store = MemoryStore(self.clock) if store else None
        self.recent = RecentVectors(
            max_bytes=2**20, ttl_s=1000.0, clock=self.clock, count=self.counts
        )
        self.cache = Cache(
            self.inner,
            model,
            self.recent,
            self.store,
            origins,
            allowed or allowing(origins),
            scope,
            self.clock,
            self.counts,
        )

    async def __call__(self, *inputs, **fields):
        """Ask for these inputs."""
        return await self.cache(make_request(*inputs, **fields))

    @property
    def inputs(self):
        """What was asked of the inner Embedder, in turn."""
        return [request.inputs for request in self.inner.requests]

    def forget(self):
        """Empty the memory, as a new process has it."""
        self.recent.purge(Selection())


def vectors(*inputs, **params):
    """The right vectors."""
    return [make_vector(value, make_params(**params)) for value in inputs]


def made(response):
    """The vectors of an answer."""
    return [embedding.vector for embedding in response.embeddings]


def sources(response):
    """Where they come from."""
    return [embedding.source for embedding in response.embeddings]


TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "A", "a ", (1, 2), "1 2"]), min_size=1)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.booleans())
async def test_any_mixture(requests, is_forgetful):
    """Hits, misses and doubles in any mixture come back in order with the right vectors, and only
    what is missing is asked for, in order."""
    asked, known = Asked(), set()
    for inputs in requests:
        response = await asked(*inputs)

        assert made(response) == vectors(*inputs)
        missing = tuple(value for value in inputs if value not in known)
        assert asked.inputs[-1:] == [missing] if missing else True
        assert sources(response) == ["cache" if v in known else "scripted" for v in inputs]
        known.update(inputs)
        if is_forgetful:
            asked.forget()
    assert all(asked.inputs)
    assert asked.counts["hit"] + asked.counts["miss"] == sum(map(len, requests))
    assert asked.counts["miss"] == sum(map(len, asked.inputs))
    assert asked.counts["stored"] == len(known)


@pytest.mark.parametrize("forgotten", [False, True], ids=["memory", "store"])
async def test_a_hit(forgotten):
    """A hit costs nothing, comes from the cache, and has the tokens and flags that it had."""

    def answer(request):
        flags = [(1, False, False), (2, True, False), (3, False, True)]
        return changed(
            respond(request, attempts=(make_attempt(),)),
            embeddings=tuple(
                Embedding(make_vector(text), tokens, "scripted", 70, estimated, truncated)
                for text, (tokens, estimated, truncated) in zip(request.inputs, flags, strict=True)
            ),
        )

    asked = Asked([answer])
    first = await asked("a", "b", "c")
    if forgotten:
        asked.forget()
    again = await asked("a", "b", "c", id="other")

    assert [e.cost for e in first.embeddings] == [70, 70, 70]
    assert again.embeddings == tuple(
        changed(embedding, cost=0, source="cache") for embedding in first.embeddings
    )
    assert again.attempts == ()
    assert again.params == first.params
    assert len(asked.inputs) == 1


async def test_a_full_miss_is_passed_up():
    """Where nothing is known the request goes down and the answer comes up as they are."""
    given_up = []
    asked = Asked(lambda request: given_up.append(respond(request)) or given_up[0])
    request = make_request("a", "b", "a")

    assert await asked.cache(request) is given_up[0]
    assert asked.inner.requests[0] is request


async def test_attempts_of_a_mixture():
    """An answer of hits and misses has the attempts made for the misses."""
    asked = Asked([None, lambda request: respond(request, attempts=(make_attempt(),), cost=5)])
    await asked("a")
    response = await asked("a", "b")

    assert response.attempts == (make_attempt(),)
    assert [e.cost for e in response.embeddings] == [0, 5]


async def test_skip():
    """With "skip" nothing is read and nothing is kept."""
    asked = Asked()
    await asked("a", cache="skip")
    assert (len(asked.recent), asked.store.kept) == (0, {})
    await asked("a")
    response = await asked("a", cache="skip")

    assert sources(response) == ["scripted"]
    assert asked.inputs == [("a",)] * 3
    assert asked.counts["hit"] == 0


async def test_refresh():
    """With "refresh" all is asked for, and replaces what was kept, in memory and in the store."""
    asked = Asked([None, lambda request: respond(request, tokens=9)])
    await asked("a", "b")
    response = await asked("b", "a", "b", cache="refresh")

    assert asked.inputs[1] == ("b", "a", "b")
    assert sources(response) == ["scripted"] * 3
    for _ in range(2):
        again = await asked("a", "b")
        assert [(e.tokens, e.source) for e in again.embeddings] == [(9, "cache")] * 2
        asked.forget()


async def test_refresh_is_not_undone_by_a_slow_read():
    """What the store answers late does not replace what was refreshed meanwhile."""
    asked = Asked([None, lambda request: respond(request, tokens=9)])
    await asked("a")
    asked.forget()
    release = hold(asked.store)
    slow = asyncio.create_task(asked("a"))
    await until(lambda: asked.store.waiting)
    await asked("a", cache="refresh")
    release()

    assert (await slow).embeddings[0].tokens == 3
    assert (await asked("a")).embeddings[0].tokens == 9


async def test_a_purge_is_not_undone_by_a_slow_read():
    """What the store answers late is not kept in memory if it may have been purged meanwhile."""
    asked = Asked()
    await asked("a")
    asked.forget()
    release = hold(asked.store)
    slow = asyncio.create_task(asked("a"))
    await until(lambda: asked.store.waiting)
    await asked.store.purge(Selection())
    asked.recent.purge(Selection())
    release()
    await slow

    assert len(asked.recent) == 0
    assert sources(await asked("a")) == ["scripted"]


def hold(store):
    """Let the store read at once, but answer only when the returned function is called."""
    get_many, event = store.get_many, asyncio.Event()
    store.waiting = 0

    async def held(label, keys):
        found = await get_many(label, keys)
        store.waiting += 1
        await event.wait()
        return found

    store.get_many = held
    return event.set


async def test_the_memory_is_filled_from_the_store():
    """What the store knew is answered from memory the next time, and gets no younger."""
    asked = Asked()
    await asked("a")
    asked.forget()
    asked.clock.advance(999)
    assert sources(await asked("a")) == ["cache"]
    asked.store.kept.clear()
    assert sources(await asked("a")) == ["cache"]
    asked.clock.advance(1)
    assert sources(await asked("a")) == ["scripted"]


async def test_the_store_is_asked_for_the_rest():
    """The store is asked once, for what is not in memory, without doubles; not at all if there is
    nothing."""
    asked, keys = Asked(), []
    get_many = asked.store.get_many

    async def noted(label, wanted):
        keys.append(len(wanted))
        return await get_many(label, wanted)

    asked.store.get_many = noted
    await asked("a", "b", "b")
    await asked("a", "b", "a")
    await asked("a", "c", "c")

    assert keys == [2, 1]


async def test_a_store_that_returns_less():
    """What a store has lost is a miss."""
    asked = Asked()
    await asked("a", "b", "c")
    asked.forget()
    del asked.store.kept[sorted(asked.store.kept)[1]]
    response = await asked("a", "b", "c")

    assert made(response) == vectors("a", "b", "c")
    assert sorted(sources(response)) == ["cache", "cache", "scripted"]
    assert len(asked.inputs[1]) == 1


async def test_no_store():
    """A cache without a store lives from its memory."""
    asked = Asked(store=False)
    await asked("a")

    assert sources(await asked("b", "a")) == ["scripted", "cache"]


@pytest.mark.parametrize("forgotten", [False, True], ids=["memory", "store"])
async def test_an_account_that_has_changed(forgotten):
    """A vector of an account that now points elsewhere is a miss, and is replaced."""
    asked = Asked()
    await asked("a", "b")
    moved = Asked(origins={"scripted": b"newplace"})
    if forgotten:
        moved.store.kept = asked.store.kept
    else:
        for key, (label, cached) in asked.store.kept.items():
            moved.recent.put_many(label, [(key, cached)])

    assert sources(await moved("a", "b")) == ["scripted"] * 2
    assert sources(await moved("a", "b")) == ["cache"] * 2


async def test_a_source_that_is_none_of_the_accounts():
    """What was made by nobody we know is answered and not kept."""
    asked = Asked(lambda request: respond(request, source="stranger"))
    await asked("a")

    assert sources(await asked("a")) == ["stranger"]
    assert (len(asked.recent), asked.store.kept, asked.counts["stored"]) == (0, {}, 0)


OPTIONS = b'{"cohere":{"truncate":"END"}}'


@pytest.mark.parametrize(
    ("options", "only", "hit"),
    [
        (b"", (), True),
        (b"", ("other",), True),
        (OPTIONS, (), True),
        (OPTIONS, ("scripted",), True),
        (OPTIONS, ("other", "scripted"), True),
        (OPTIONS, ("other",), False),
        (OPTIONS, ("unknown",), False),
    ],
)
@pytest.mark.parametrize("forgotten", [False, True], ids=["memory", "store"])
async def test_whose_vectors_count(options, only, hit, forgotten):
    """All accounts' vectors of a model are the same, unless there are options, which one provider
    reads and another does not: then only those count that may serve the call."""
    asked = Asked()
    await asked("a", options=options)
    if forgotten:
        asked.forget()

    response = await asked("a", options=options, only=only)

    assert sources(response) == ["cache" if hit else "scripted"]


@pytest.mark.parametrize("forgotten", [False, True], ids=["memory", "store"])
@pytest.mark.parametrize(
    ("asked_first", "asked_then", "hit"),
    [
        ((), (), True),
        (("scripted",), (), False),
        (("scripted",), ("other",), False),
        (("scripted",), ("scripted",), True),
        (("scripted",), ("scripted", "other"), False),
    ],
)
@pytest.mark.parametrize("fields", [{"options": OPTIONS}, {"input_type": "clustering"}])
async def test_who_does_not_read_the_question(fields, asked_first, asked_then, hit, forgotten):
    """An account that was forced to answer what it does not read made another vector: it counts
    for who forces it again, and for nobody else."""

    def allowed(only, params):
        reading = ["other"] if params.options or params.input_type else [*ORIGINS]
        may = [name for name in ORIGINS if not only or name in only]
        return [name for name in may if name in reading] or may

    def by(source):
        return lambda request: respond(request, source=source)

    asked = Asked([by("scripted" if asked_first else "other"), by("other")], allowed=allowed)
    await asked("a", only=asked_first, **fields)
    if forgotten:
        asked.forget()

    response = await asked("a", only=asked_then, **fields)

    assert sources(response) == ["cache" if hit else "other"]


@pytest.mark.parametrize("store", [True, False])
async def test_what_came_during_a_look_into_the_store_is_known(store):
    """A caller who looked into the memory too early, and then into the store, finds what was
    answered meanwhile: a text is not asked for again while its vector is here."""
    asked = Asked()
    late = asyncio.create_task(asked("a", "b"))
    look = asked.store.get_many

    async def meanwhile(label, keys):
        asked.store.get_many = look
        await asked("b")
        return {} if not store else await look(label, keys[:1])

    asked.store.get_many = meanwhile
    response = await late
    assert sources(response) == ["scripted", "cache"]
    assert [value for inputs in asked.inputs for value in inputs] == ["b", "a"]


@pytest.mark.parametrize("store", [True, False])
async def test_an_error_keeps_what_was_finished(store):
    """What was embedded before an error is kept, and the error's positions are the caller's."""

    def fail(request):
        assert request.inputs == ("b", "c", "d")
        error = UpstreamInputTooLong("input[1] is too long.", provider="openai", param="input[1]")
        error.finished = {
            0: Embedding(make_vector("b"), 3, "scripted", 5),
            2: Embedding(make_vector("d"), 3, "scripted", 5),
        }
        error.attempts = (make_attempt(is_success=False),)
        return error

    asked = Asked([None, fail], store=store)
    await asked("a", "e")
    with pytest.raises(UpstreamInputTooLong) as caught:
        await asked("a", "b", "c", "e", "d")

    error = caught.value
    assert (error.param, error.message) == ("input[2]", "input[2] is too long.")
    assert str(error) == error.message
    assert {i: e.vector for i, e in error.finished.items()} == {
        1: make_vector("b"),
        4: make_vector("d"),
    }
    assert error.attempts == (make_attempt(is_success=False),)
    assert sources(await asked("b", "d", "a", "c")) == ["cache", "cache", "cache", "scripted"]


async def test_an_error_leaves_what_is_known():
    """A refresh that fails takes nothing away."""
    asked = Asked([None, UpstreamUnavailable("no", provider="openai")])
    await asked("a")
    with pytest.raises(UpstreamUnavailable):
        await asked("a", cache="refresh")

    assert sources(await asked("a")) == ["cache"]


@pytest.mark.parametrize(
    ("scope", "shared"),
    [
        ("project", {("k1", "x"), ("k2", "x")}),
        ("key", {("k1", "x"), ("k1", "y")}),
        ("global", {("k1", "x"), ("k1", "y"), ("k2", "x"), ("k2", "y")}),
    ],
)
async def test_scopes(scope, shared):
    """Vectors are shared by the keys of a project, by nobody else than the key, or by all."""
    for key_id in ("k1", "k2"):
        for project in ("x", "y"):
            asked = Asked(scope=scope)
            await asked("a", grant=make_grant(key_id="k1", project="x"))
            response = await asked("a", grant=make_grant(key_id=key_id, project=project))
            assert (sources(response) == ["cache"]) == ((key_id, project) in shared)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "01M2RV50ENRGT4K2CHJ0WC4N1J", "deadline": 1001.0, "user": "u", "tags": ("t",)},
        {"fallbacks": ("x",), "order": ("other",), "sort": "cost", "only": ("other",)},
        {"trace": "t", "app": "a", "cache": "use"},
    ],
)
async def test_the_call_changes_no_vector(fields):
    """What a call says besides its parameters and texts does not part vectors."""
    asked = Asked()
    await asked("a")

    assert sources(await asked("a", **fields)) == ["cache"]


@pytest.mark.parametrize(
    "params", [{"dimensions": 4}, {"input_type": "query"}, {"options": OPTIONS}]
)
async def test_params_part_vectors(params):
    """A vector is known only for the parameters it was made with."""
    asked = Asked()
    await asked("a")

    response = await asked("a", **params)
    assert sources(response) == ["scripted"]
    assert made(response) == vectors("a", **params)


async def test_labels():
    """A vector is kept under its model, its space and the scope that may read it."""
    asked = Asked()
    await asked("a", dimensions=4)

    [(label, cached)] = asked.store.kept.values()
    assert (label.model, label.space, label.project) == (
        MODEL.id,
        f"{MODEL.space_name}@4",
        "default",
    )
    assert (cached.origin, cached.created_s) == (b"scripted", 1_800_000_000)
    assert [group.label for group in asked.recent.groups()] == [label]


@pytest.mark.parametrize("mode", ["use", "skip", "refresh"])
@pytest.mark.parametrize("first", [1, 5, 7, 8, None])
async def test_one_vector_serves_all_widths(mode, first):
    """Where the first numbers of a vector are the shorter vector, the full one is asked for and
    kept, and every width has the bits of the full one cut, in whatever mode and order."""
    asked = Asked(model=CUT)
    await asked("a", dimensions=first)
    full = make_vector("a", make_params(dimensions=8))
    for width in (1, 2, 5, 7, 8, 1):
        response = await asked("a", "b", dimensions=width, cache=mode)
        assert response.params.dimensions == width
        cut = [full, make_vector("b", make_params(dimensions=8))]
        assert made(response) == [v if width == 8 else truncate(v, width) for v in cut]
    if mode == "use" and first is not None:
        assert asked.inputs == [("a",), ("b",)]
        assert {r.params.dimensions for r in asked.inner.requests} == {8}


async def test_more_than_the_default_width():
    """A width above the model's default is no cut of it: it is asked for as it is."""
    asked = Asked(model=CUT)
    await asked("a", dimensions=8)
    response = await asked("a", dimensions=16)

    assert made(response) == vectors("a", dimensions=16)


async def test_widths_of_what_was_finished():
    """What was embedded before an error has the caller's width, and is kept in full."""
    full = make_vector("b", make_params(dimensions=8))

    def fail(request):
        error = UpstreamUnavailable("no", provider="openai")
        error.finished = {0: Embedding(full, 3, "scripted")}
        return error

    asked = Asked([None, fail], model=CUT)
    await asked("a", dimensions=3)
    with pytest.raises(UpstreamUnavailable) as caught:
        await asked("a", "b", "c", dimensions=3)

    assert {i: e.vector for i, e in caught.value.finished.items()} == {1: truncate(full, 3)}
    response = await asked("b", dimensions=8)
    assert (made(response), sources(response)) == ([full], ["cache"])


async def test_nothing_left_after_a_cut():
    """A vector whose first numbers are all zero has no shorter one, which is said and not passed
    on as zeros."""
    vector = from_numbers(np.eye(8)[5])

    def answer(request):
        embeddings = (respond(make_request("a")).embeddings[0], Embedding(vector, 3, "scripted"))
        return changed(respond(request, attempts=(make_attempt(),)), embeddings=embeddings)

    asked = Asked([answer], model=CUT)
    with pytest.raises(UnsupportedDimensions, match=r"input\[1\]") as caught:
        await asked("a", "b", dimensions=5)

    assert (caught.value.param, caught.value.attempts) == ("dimensions", (make_attempt(),))
    assert made(await asked("b", dimensions=8)) == [vector]


async def test_models_that_cannot_be_cut():
    """Of other models each width is another vector, asked for as it is."""
    asked = Asked()
    for width in (4, 8, 4):
        response = await asked("a", dimensions=width)
        assert made(response) == vectors("a", dimensions=width)

    assert [request.params.dimensions for request in asked.inner.requests] == [4, 8]


async def test_nobody_may_serve_it():
    """A forced account that does not serve the model is refused below, also for a known text."""
    asked = Asked()
    await asked("a")

    await asked("a", only=("foreign",))
    assert asked.inputs == [("a",), ("a",)]
    response = await asked("a", only=("foreign", "other"))
    assert sources(response) == ["cache"]
