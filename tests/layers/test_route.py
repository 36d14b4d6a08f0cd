"""Route makes names and parameters final before anything is asked."""

import bpe_openai
import orjson
import pytest

from embedway.catalog_file import load_catalog
from embedway.directory import Directory
from embedway.errors import (
    InvalidInput,
    InvalidRequest,
    ModelNotFound,
    SpaceMismatch,
    UnsupportedDimensions,
)
from embedway.layers.route import Route
from tests.fakes import ScriptedEmbedder, make_grant, make_request

CATALOG = load_catalog()
SMALL = "openai/text-embedding-3-small"
ADA = "openai/text-embedding-ada-002"
LOCAL = "local/wordllama-256"
COHERE = "cohere/embed-english-v3.0"
VOYAGE = "voyage/voyage-3-large"
PROVIDERS = {
    SMALL: ("openai", "azure"),
    ADA: ("openai",),
    LOCAL: ("local",),
    COHERE: ("cohere",),
    VOYAGE: ("voyage",),
}
encode = bpe_openai.get_encoding("cl100k_base").encode_ordinary


def make_route(takes_token_ids=frozenset()):
    """The layer over one inner Embedder for every model."""
    inner = ScriptedEmbedder()
    directory = Directory(CATALOG, {"fast": SMALL}, frozenset(PROVIDERS))
    return Route(dict.fromkeys(PROVIDERS, inner), directory, PROVIDERS, takes_token_ids), inner


async def final_params(**fields):
    """The params that the inner Embedder gets."""
    route, inner = make_route()
    await route(make_request(**fields))
    return inner.requests[0].params


@pytest.mark.parametrize("name", [SMALL, "text-embedding-3-small", "fast"])
async def test_name(name):
    """A canonical name, a bare name and an alias lead to one model, under one name."""
    assert (await final_params(model=name)).model == SMALL


async def test_each_model_has_its_stack():
    """A request goes to the stack of its model and to no other."""
    stacks = {name: ScriptedEmbedder() for name in PROVIDERS}
    route = Route(stacks, Directory(CATALOG, {}, frozenset(PROVIDERS)), PROVIDERS)

    await route(make_request(model=ADA))

    assert [name for name, stack in stacks.items() if stack.requests] == [ADA]


@pytest.mark.parametrize("name", ["openai/nothing", "mistral/mistral-embed"])
async def test_unserved(name):
    """A model that does not exist or that nobody serves here is ModelNotFound."""
    with pytest.raises(ModelNotFound):
        await final_params(model=name)


@pytest.mark.parametrize(
    ("model", "asked", "final"),
    [
        (SMALL, None, 1536),
        (SMALL, 1, 1),
        (SMALL, 256, 256),
        (SMALL, 1536, 1536),
        (ADA, None, 1536),
        (ADA, 1536, 1536),
        (LOCAL, None, 256),
        (LOCAL, 64, 64),
        (LOCAL, 128, 128),
        (LOCAL, 256, 256),
    ],
)
async def test_dimensions(model, asked, final):
    """The dimensions asked for are kept, and the model's own are filled in where none are."""
    assert (await final_params(model=model, dimensions=asked)).dimensions == final


@pytest.mark.parametrize(
    ("model", "asked", "allowed"),
    [
        (SMALL, 1537, "1 to 1536"),
        (ADA, 256, "1536"),
        (LOCAL, 1, "64, 128 or 256"),
        (LOCAL, 65, "64, 128 or 256"),
        (LOCAL, 512, "64, 128 or 256"),
    ],
)
async def test_wrong_dimensions(model, asked, allowed):
    """Dimensions that the model does not have are refused, never ignored, naming those it has."""
    with pytest.raises(UnsupportedDimensions) as caught:
        await final_params(model=model, dimensions=asked)

    assert caught.value.param == "dimensions"
    assert f"{model} gives vectors of {allowed} dimensions, not {asked}." == caught.value.message


@pytest.mark.parametrize(
    ("model", "asked", "final"),
    [
        (SMALL, None, None),
        (SMALL, "query", None),  # it embeds both alike: the standard words are welcome
        (SMALL, "document", None),
        (COHERE, None, "document"),
        (COHERE, "query", "query"),
        (COHERE, "document", "document"),
        (COHERE, "classification", "classification"),
        (COHERE, "search_query", "query"),  # its own word for the same
    ],
)
async def test_input_type(model, asked, final):
    """The input type asked for is kept where the model has one, in our word if there is one; a
    model that needs one gets its default."""
    assert (await final_params(model=model, input_type=asked)).input_type == final


@pytest.mark.parametrize(("model", "asked"), [(SMALL, "search_query"), (COHERE, "RETRIEVAL_QUERY")])
async def test_wrong_input_type(model, asked):
    """A word that no provider of the model knows as input type is refused."""
    with pytest.raises(InvalidRequest) as caught:
        await final_params(model=model, input_type=asked)

    assert caught.value.param == "input_type"
    assert repr(asked) in caught.value.message


@pytest.mark.parametrize(
    ("options", "root", "dimensions", "left"),
    [
        ({}, None, 1536, {}),
        ({"openai": {"dimensions": 256}}, None, 256, {}),
        ({"openai": {"dimensions": 256}}, 512, 256, {}),
        ({"azure": {"dimensions": 64}}, None, 64, {}),
        ({"openai": {"dimensions": 256}, "azure": {"dimensions": 64}}, None, 256, {}),
        ({"cohere": {"outputDimension": 64}}, 512, 512, {}),
        ({"openai": {"user": "u", "dimensions": 8}}, None, 8, {"openai": {"user": "u"}}),
        ({"openai": {}, "cohere": {"truncate": "END"}}, None, 1536, {}),
        (
            {"openai": {"user": "b"}, "azure": {"user": "a"}},
            None,
            1536,
            {"azure": {"user": "a"}, "openai": {"user": "b"}},
        ),
    ],
)
async def test_provider_options(options, root, dimensions, left):
    """The options of the providers that serve the model are kept, as canonical JSON; their word on
    dimensions wins over the root field; those of other providers are dropped."""
    given = orjson.dumps(options) if options else b""
    params = await final_params(model=SMALL, dimensions=root, options=given)

    assert params.dimensions == dimensions
    assert params.options == (orjson.dumps(left, option=orjson.OPT_SORT_KEYS) if left else b"")


async def test_provider_options_are_checked():
    """Dimensions that a provider's options ask for are checked like those of the root field."""
    with pytest.raises(UnsupportedDimensions):
        await final_params(model=SMALL, options=b'{"openai":{"dimensions":4000}}')


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ((9906, 11, 1917, 0), "Hello, world!"),
        (tuple(encode("naïve 🦜 日本語")), "naïve 🦜 日本語"),
        (tuple(encode("🦜"))[:1], "\ufffd"),
        ((100257,), "<|endoftext|>"),
    ],
)
async def test_token_ids(ids, text):
    """Token ids become the text they stand for where the model takes text only; a character that
    was cut becomes U+FFFD."""
    route, inner = make_route()
    await route(make_request(ids, ids, model=LOCAL))

    assert inner.requests[0].inputs == (text, text)


async def test_token_ids_are_passed_on():
    """Token ids stay as they are where every deployment of the model takes them."""
    route, inner = make_route(frozenset({SMALL}))
    await route(make_request((9906, 11), (200_000,), model=SMALL))
    await route(make_request((9906, 11), model=ADA))

    assert [request.inputs for request in inner.requests] == [
        ((9906, 11), (200_000,)),
        ("Hello,",),
    ]


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize(
    ("bad", "words"),
    [((9906, 100256), "not in the cl100k vocabulary"), ((), "stands for an empty text")],
)
async def test_bad_token_ids(at, bad, words):
    """An id outside the vocabulary, or ids of nothing, are refused, naming the input."""
    inputs = [(9906,)] * 5
    inputs[at] = bad
    route, inner = make_route()

    with pytest.raises(InvalidInput, match=words) as caught:
        await route(make_request(*inputs, model=LOCAL))

    assert caught.value.param == f"input[{at}]"
    assert inner.requests == []


async def test_texts_among_token_ids():
    """Where an input is text already, it stays as it is."""
    route, inner = make_route()
    await route(make_request("as it is", (9906,), model=LOCAL))

    assert inner.requests[0].inputs == ("as it is", "Hello")


class Watched(Directory):
    """A directory that remembers who was looked up."""

    looked_up = 0

    def look_up_served(self, name):
        """Look up, and count it."""
        self.looked_up += 1
        return super().look_up_served(name)


@pytest.mark.parametrize(("length", "times"), [(0, 1), (10, 1), (2000, 3)])
async def test_what_was_made_final_is_kept(length, times):
    """Parameters that come again are made final once, unless their options are long: what callers
    send must not fill the memory."""
    inner, directory = ScriptedEmbedder(), Watched(CATALOG, {}, frozenset(PROVIDERS))
    route = Route(dict.fromkeys(PROVIDERS, inner), directory, PROVIDERS)
    options = orjson.dumps({"openai": {"user": "u" * length}}) if length else b""

    for _ in range(3):
        await route(make_request(model=SMALL, options=options))

    assert directory.looked_up == times
    assert {request.params for request in inner.requests} == {
        make_request(model=SMALL, dimensions=1536, options=options).params
    }


async def test_a_refusal_is_not_kept():
    """Parameters that were refused are refused again, in the same words."""
    route, inner = make_route()
    for _ in range(2):
        with pytest.raises(UnsupportedDimensions, match="not 1537"):
            await route(make_request(model=SMALL, dimensions=1537))

    assert inner.requests == []


@pytest.mark.parametrize(
    ("pinned", "asked"),
    [
        (f"{SMALL}@1536", {"model": SMALL}),
        (f"{SMALL}@1536", {"model": "fast", "dimensions": 1536}),
        (f"{SMALL}@1536", {"model": SMALL, "input_type": "query"}),
        (f"{SMALL}@256", {"model": "text-embedding-3-small", "dimensions": 256}),
        (f"{VOYAGE}@1024+query", {"model": VOYAGE, "input_type": "query"}),
        (f"{VOYAGE}@1024", {"model": VOYAGE, "input_type": "query"}),
        (f"{VOYAGE}@1024", {"model": VOYAGE, "input_type": "document"}),
    ],
)
async def test_a_key_gets_vectors_of_its_space(pinned, asked):
    """A key that is pinned to a space gets its vectors under every name of the model, and of every
    input type if it names none."""
    route, inner = make_route()
    await route(make_request(grant=make_grant(space=pinned), **asked))

    assert len(inner.requests) == 1


@pytest.mark.parametrize(
    ("pinned", "asked", "found"),
    [
        (f"{SMALL}@1536", {"model": SMALL, "dimensions": 256}, f"{SMALL}@256"),
        (f"{SMALL}@256", {"model": "fast"}, f"{SMALL}@1536"),
        (f"{SMALL}@1536", {"model": ADA}, f"{ADA}@1536"),
        (
            f"{VOYAGE}@1024+query",
            {"model": VOYAGE, "input_type": "document"},
            f"{VOYAGE}@1024+document",
        ),
        (f"{SMALL}@1536", {"model": LOCAL}, f"{LOCAL}@256"),
    ],
)
async def test_a_key_gets_no_vectors_of_another_space(pinned, asked, found):
    """What would live in another space is refused before anything is asked; the message names
    both."""
    route, inner = make_route()
    with pytest.raises(SpaceMismatch) as caught:
        await route(make_request(grant=make_grant(name="ci", space=pinned), **asked))

    assert (caught.value.status, caught.value.code) == (409, "space_mismatch")
    assert f"'ci' is pinned to the space {pinned}" in caught.value.message
    assert f"would live in {found}." in caught.value.message
    assert inner.requests == []
