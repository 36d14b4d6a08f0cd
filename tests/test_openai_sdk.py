"""The official OpenAI client against the application, in process: what it sends is understood,
what it reads is right, and it stops where trying again is useless."""

import array
import base64

import httpx2
import openai
import pytest

from embedway.server.app import App
from embedway.vectors import as_array
from tests.asgi import embed

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODEL = "local/wordllama-256"


class Counting(httpx2.AsyncBaseTransport):
    """Hands requests to the application and counts them."""

    def __init__(self, app: App) -> None:
        self._inner = httpx2.ASGITransport(app)
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request):
        """One HTTP request."""
        self.requests.append(request)
        return await self._inner.handle_async_request(request)


@pytest.fixture
def transport(app):
    """A fresh count of requests."""
    return Counting(app)


@pytest.fixture
def client(transport):
    """The official client, as its users make it."""
    return openai.AsyncOpenAI(
        api_key="anything",
        base_url="http://127.0.0.1:1536/v1",
        http_client=httpx2.AsyncClient(transport=transport),
        max_retries=2,
    )


async def vectors(app, *texts, **fields):
    """The vectors of the texts, without the client."""
    answer = await embed(app, input=list(texts), encoding_format="base64", **fields)
    return [list(as_array(base64.b64decode(item["embedding"]))) for item in answer.json()["data"]]


@pytest.mark.parametrize(
    "given", ["one text", ["one text"], ["one", "two", "three"], [" ", "🦜", "日本語"]]
)
async def test_texts(app, client, given):
    """A text or a list of texts comes back as vectors in order; the client asks for base64 unless
    told otherwise, and decodes it."""
    response = await client.embeddings.create(model=MODEL, input=given)

    expected = await vectors(app, *([given] if isinstance(given, str) else given))
    assert [item.embedding for item in response.data] == expected
    assert [item.index for item in response.data] == list(range(len(expected)))
    assert response.object == "list"
    assert response.model == MODEL
    assert response.usage.prompt_tokens == response.usage.total_tokens >= len(expected)


async def test_float_and_base64(app, client):
    """Floats and base64 are the same vector, bit for bit."""
    floats = await client.embeddings.create(model=MODEL, input="x", encoding_format="float")
    text = await client.embeddings.create(model=MODEL, input="x", encoding_format="base64")

    packed = array.array("f", floats.data[0].embedding).tobytes()
    assert base64.b64encode(packed).decode() == text.data[0].embedding


@pytest.mark.parametrize("given", [[9906, 11, 1917, 0], [[9906, 11, 1917, 0]]])
async def test_token_ids(app, client, given):
    """Token ids are the text they stand for."""
    response = await client.embeddings.create(model=MODEL, input=given)

    assert [item.embedding for item in response.data] == await vectors(app, "Hello, world!")


@pytest.mark.parametrize("dimensions", [64, 128, 256])
async def test_dimensions(app, client, dimensions):
    """The dimensions asked for come."""
    response = await client.embeddings.create(model=MODEL, input="x", dimensions=dimensions)

    assert [item.embedding for item in response.data] == await vectors(
        app, "x", dimensions=dimensions
    )
    assert len(response.data[0].embedding) == dimensions


async def test_raw_response(client):
    """Headers, request id and the extension blocks are there for who looks for them."""
    raw = await client.embeddings.with_raw_response.create(
        model=MODEL, input="x", user="u-1", extra_headers={"x-request-id": "mine-1"}
    )
    parsed = raw.parse()

    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-embedway-model"] == MODEL
    assert parsed.model_extra["gateflow"]["dimensions"] == 256
    assert parsed.model_extra["providerMetadata"]["gateway"]["cost"] == "0"


async def test_models(client):
    """The client lists the models and finds one by a name with a slash."""
    listed = [model.id async for model in client.models.list()]

    assert MODEL in listed
    assert (await client.models.retrieve(MODEL)).id == MODEL


@pytest.mark.parametrize(
    ("fields", "kind", "status", "code", "param"),
    [
        ({"input": ""}, openai.BadRequestError, 400, "invalid_input", "input[0]"),
        ({"input": []}, openai.BadRequestError, 400, "invalid_input", "input"),
        ({"input": ["a", ""]}, openai.BadRequestError, 400, "invalid_input", "input[1]"),
        (
            {"dimensions": 100},
            openai.BadRequestError,
            400,
            "unsupported_dimensions",
            "dimensions",
        ),
        ({"model": "made-up"}, openai.NotFoundError, 404, "model_not_found", "model"),
        ({"model": "claude-3"}, openai.NotFoundError, 404, "model_not_found", "model"),
        (
            {"extra_body": {"colour": 1}},
            openai.BadRequestError,
            400,
            "invalid_parameter",
            "colour",
        ),
    ],
)
async def test_errors(client, transport, fields, kind, status, code, param):
    """The client raises the right class with all four words of the error, and tries once."""
    with pytest.raises(kind) as caught:
        await client.embeddings.create(**{"model": MODEL, "input": "x", **fields})

    error = caught.value
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert error.type == "invalid_request_error"
    assert error.request_id
    assert len(transport.requests) == 1


async def test_no_such_route(client):
    """A route that does not exist is told as that in the same envelope."""
    with pytest.raises(openai.NotFoundError) as caught:
        await client.moderations.create(input="x")

    assert caught.value.code == "not_found"
