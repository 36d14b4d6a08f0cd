"""The fake provider itself: that its vectors tell texts apart, that it refuses what the real
services refuse, in their words' form, that its faults are what they say, and that its books hold.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import pytest

from embedway.provider import HttpRequest, HttpResponse, TransportError
from embedway.transport import Transport
from tests.fake_provider import faults
from tests.fake_provider.exchange import KEY
from tests.fake_provider.json_text import json_answer
from tests.fake_provider.server import FakeProvider, running_fake
from tests.fake_provider.vectors import count_tokens, expected_vector

BEARER = {"authorization": f"Bearer {KEY}"}
GOOGLE_KEY = {"x-goog-api-key": KEY}
PLACE = "/projects/my-project/locations/us-central1"
CONTENT = {"parts": [{"text": "one"}]}
ENTRY = {"model": "models/gemini-embedding-001", "content": CONTENT}
NOVA = {
    "taskType": "SINGLE_EMBEDDING",
    "singleEmbeddingParams": {
        "embeddingPurpose": "GENERIC_INDEX",
        "text": {"value": "one", "truncationMode": "NONE"},
    },
}

Sent = tuple[str, str, dict[str, str], dict[str, Any]]
"""Provider, path below its base, the header with the credential, and the body."""

SOUND: dict[str, Sent] = {
    "openai": ("openai", "/embeddings", BEARER, {"model": "text-embedding-3-small", "input": "a"}),
    "azure": (
        "azure",
        "/openai/deployments/my-deployment/embeddings?api-version=2024-10-21",
        {"api-key": KEY},
        {"input": ["one"], "model": "ignored"},
    ),
    "azure v1": (
        "azure",
        "/openai/v1/embeddings",
        BEARER,
        {"input": ["one"], "model": "my-deployment"},
    ),
    "google": (
        "google",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        GOOGLE_KEY,
        {"requests": [ENTRY]},
    ),
    "vertex predict": (
        "vertex",
        f"/v1{PLACE}/publishers/google/models/text-embedding-005:predict",
        BEARER,
        {"instances": [{"content": "one"}]},
    ),
    "vertex express": (
        "vertex",
        "/v1/publishers/google/models/gemini-embedding-2:embedContent",
        GOOGLE_KEY,
        {"content": CONTENT},
    ),
    "cohere": (
        "cohere",
        "/v2/embed",
        BEARER,
        {"model": "embed-v4.0", "texts": ["one"], "input_type": "search_query"},
    ),
    "cohere v1": (
        "cohere",
        "/v1/embed",
        BEARER,
        {"model": "embed-english-v3.0", "texts": ["one"], "input_type": "search_query"},
    ),
    "mistral": ("mistral", "/v1/embeddings", BEARER, {"model": "mistral-embed", "input": ["one"]}),
    "voyage": ("voyage", "/embeddings", BEARER, {"model": "voyage-4", "input": ["one"]}),
    "jina": ("jina", "/embeddings", BEARER, {"model": "jina-embeddings-v3", "input": ["one"]}),
    "nomic": (
        "nomic",
        "/v1/embedding/text",
        BEARER,
        {"model": "nomic-embed-text-v1.5", "texts": ["one"]},
    ),
    "nova": ("bedrock", "/model/amazon.nova-2-multimodal-embeddings-v1%3A0/invoke", BEARER, NOVA),
    "ollama": ("ollama", "/api/embed", {}, {"model": "any", "input": "one"}),
    "tei": ("tei", "/embed", BEARER, {"inputs": ["one"]}),
    "tei v1": ("tei", "/v1/embeddings", BEARER, {"input": [[1, 2, 3]]}),
    "fireworks": (
        "fireworks",
        "/embeddings",
        BEARER,
        {"model": "nomic-ai/nomic-embed-text-v1.5", "input": ["one"], "normalize": True},
    ),
    "infinity": ("infinity", "/embeddings", {}, {"model": "any", "input": ["one"]}),
}

REFUSED: dict[str, tuple[str, dict[str, Any], int, Any]] = {
    # A sound request, what is put into its body, the status, and a part of the answer.
    "OpenAI, empty text": ("openai", {"input": [""]}, 400, "'$.input' is invalid"),
    "OpenAI, too many": ("openai", {"input": ["a"] * 2049}, 400, "'$.input' is invalid"),
    "OpenAI, unknown field": ("openai", {"inputs": 1}, 400, '"type":"invalid_request_error"'),
    "OpenAI, too wide": ("openai", {"dimensions": 1537}, 400, "specifying dimensions"),
    "OpenAI, no model": ("openai", {"model": "nope"}, 404, "does not exist"),
    "Fireworks, user": ("fireworks", {"user": "u"}, 400, "Unknown field: user"),
    "Fireworks, base64": ("fireworks", {"encoding_format": "base64"}, 400, "encoding_format"),
    "Azure, no deployment": ("azure v1", {"model": "nope"}, 404, '"DeploymentNotFound"'),
    "Google, 101 texts": ("google", {"requests": [ENTRY] * 101}, 400, "at most 100"),
    "Google, other model": (
        "google",
        {"requests": [{**ENTRY, "model": "models/gemini-embedding-2"}]},
        400,
        '"INVALID_ARGUMENT"',
    ),
    "Vertex, 251 texts": (
        "vertex predict",
        {"instances": [{"content": "a"}] * 251},
        400,
        "At most 250",
    ),
    "Cohere, no input type": ("cohere", {"input_type": None}, 400, '"id":"a1"'),
    "Cohere, 97 texts": ("cohere", {"texts": ["a"] * 97}, 400, "at most 96 - received 97"),
    "Cohere v1, dimensions": ("cohere v1", {"output_dimension": 256}, 400, "output_dimension"),
    "Mistral, user": ("mistral", {"user": "u"}, 422, '"loc":["body","user"]'),
    "Mistral, 513 texts": ("mistral", {"input": ["a"] * 513}, 400, '"code":"3210"'),
    "Mistral, tokens": ("mistral", {"input": ["a " * 16_384]}, 400, "Too many tokens overall"),
    "Mistral, dimensions": ("mistral", {"output_dimension": 256}, 400, '"object":"error"'),
    "Voyage, float": ("voyage", {"encoding_format": "float"}, 400, '{"detail"'),
    "Voyage, 129 texts": ("voyage", {"input": ["a"] * 129}, 400, "128"),
    "Voyage, no model": ("voyage", {"model": "nope"}, 400, "Model nope is not supported"),
    "Jina, encoding_format": ("jina", {"encoding_format": "float"}, 422, '{"detail"'),
    "Jina, no model": ("jina", {"model": "nope"}, 422, "Model not found"),
    "Nova, no purpose": ("nova", {"taskType": "OTHER"}, 400, '{"message"'),
    "Ollama, number": ("ollama", {"input": [1]}, 400, '{"error":"invalid input type"}'),
    "TEI, 33 texts": ("tei", {"inputs": ["a"] * 33}, 422, '"error_type":"Validation"'),
}


async def post(
    fake: FakeProvider, sent: Sent, send: Any = None, timeout_s: float = 20.0
) -> HttpResponse:
    """Send it without sockets, or through *send*."""
    provider, path, credential, body = sent
    headers = {"content-type": "application/json", **credential}
    url = f"{fake.url(provider)}{path}"
    request = HttpRequest("POST", url, headers, orjson.dumps(body), is_private=True)
    answer: HttpResponse = await (send or fake.send)(request, timeout_s=timeout_s, max_bytes=10**6)
    return answer


@pytest.mark.parametrize(
    ("text", "model", "dimensions", "task"),
    [("b", "m", 64, "t"), ("a", "n", 64, "t"), ("a", "m", 65, "t"), ("a", "m", 64, "u")],
)
def test_vectors_differ(text: str, model: str, dimensions: int, task: str) -> None:
    """Another text, model, width or task gives a vector of quite another direction."""
    one, other = expected_vector("a", "m", 64, "t"), expected_vector(text, model, dimensions, task)
    cosine = np.dot(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")[:64])
    assert one == expected_vector("a", "m", 64, "t")
    assert abs(cosine) < 0.5


@pytest.mark.parametrize("dimensions", [1, 2, 3, 256, 3072])
@pytest.mark.parametrize("length", [1.0, 18.7])
def test_vectors_have_their_length(dimensions: int, length: float) -> None:
    """A vector has as many numbers as asked for, none of them zero, and the length asked for."""
    numbers = np.frombuffer(expected_vector("a", "m", dimensions, length=length), "<f4")
    assert numbers.shape == (dimensions,)
    assert numbers.all()
    assert np.linalg.norm(numbers.astype(np.float64)) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("name", SOUND)
async def test_sound_requests(name: str) -> None:
    """What the real service takes is answered and put on the bill."""
    fake = FakeProvider()
    answer = await post(fake, SOUND[name])
    (line,) = fake.bill
    assert answer.status == line.status == 200, answer.body
    assert line.texts == 1
    assert line.tokens > 0
    assert line.answered


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_requests(name: str) -> None:
    """What the real service refuses is refused in its own form, and costs nothing."""
    of, changes, status, told = REFUSED[name]
    provider, path, credential, body = SOUND[of]
    fake = FakeProvider()
    answer = await post(fake, (provider, path, credential, {**body, **changes}))
    assert answer.status == status, answer.body
    assert told in answer.body.decode()
    assert (fake.bill.tokens, fake.bill.texts) == (0, 0)


@pytest.mark.parametrize("credential", [{}, {"authorization": "Bearer wrong"}, {"x-api-key": KEY}])
@pytest.mark.parametrize("name", [name for name, sent in SOUND.items() if sent[2]])
async def test_wrong_credentials(name: str, credential: dict[str, str]) -> None:
    """No credential, a wrong one, and one in a wrong header are refused."""
    provider, path, _, body = SOUND[name]
    answer = await post(FakeProvider(), (provider, path, credential, body))
    assert answer.status in (400, 401, 403)


async def test_every_answer_has_its_form() -> None:
    """Each provider answers in its own shape, with the same vector in it."""
    fake = FakeProvider()
    found = {name: orjson.loads((await post(fake, sent)).body) for name, sent in SOUND.items()}
    assert list(found["openai"]) == ["object", "data", "model", "usage"]
    assert found["google"].keys() == {"embeddings"}
    assert found["vertex predict"]["predictions"][0]["embeddings"]["statistics"]["token_count"] == 2
    assert found["vertex express"]["usageMetadata"]["promptTokenCount"] == 2
    assert found["cohere"]["meta"]["billed_units"]["input_tokens"] == 2
    assert isinstance(found["cohere"]["embeddings"], dict)
    assert isinstance(found["cohere v1"]["embeddings"], list)
    assert found["voyage"]["usage"] == {"total_tokens": 2}
    assert found["ollama"]["prompt_eval_count"] == 2
    assert len(found["tei"]) == 1
    assert len(found["tei"][0]) == 16
    assert found["nova"]["embeddings"][0]["embeddingType"] == "TEXT"


async def test_tei_tells_about_itself() -> None:
    """TEI's /info says how many texts it takes at once."""
    fake = FakeProvider()
    request = HttpRequest("GET", f"{fake.url('tei')}/info", BEARER, b"")
    answer = await fake.send(request, timeout_s=1.0, max_bytes=10_000)
    assert orjson.loads(answer.body)["max_client_batch_size"] == 32


def test_counts_of_tokens() -> None:
    """Words and one more, or the ids themselves."""
    texts: Iterable[str | tuple[int, ...]] = ("a b  c", " ", (5, 6))
    assert [count_tokens(text) for text in texts] == [4, 1, 2]


def test_json_with_what_strict_writers_refuse() -> None:
    """NaN and numbers over 2^64 stand on the wire as a careless provider writes them."""
    answer = json_answer({"a": [float("nan"), 2**70]})
    assert answer.body == b'{"a": [NaN, %d]}' % 2**70
    assert json.loads(answer.body)["a"][1] == 2**70


async def test_faults_come_in_turn() -> None:
    """The next answers fail as told, one each, those of the provider first; then what is always
    done is done, until all is forgotten."""
    fake, sent = FakeProvider(), SOUND["openai"]
    fake.next(faults.status(500), faults.status(503))
    fake.next(faults.status(429), of="openai")
    fake.next(faults.status(400), of="cohere")
    fake.always(faults.status(404))
    assert [(await post(fake, sent)).status for _ in range(5)] == [429, 500, 503, 404, 404]
    fake.heal()
    assert [(await post(fake, s)).status for s in (sent, SOUND["cohere"])] == [200, 200]


async def test_connections_are_kept() -> None:
    """Several requests of one caller go over one connection, chunked answers too."""
    async with running_fake() as fake, Transport() as send:
        for name in ("ollama", "openai", "ollama"):
            assert (await post(fake, SOUND[name], send)).status == 200
        assert len(fake.bill) == 3
        assert orjson.loads((await post(fake, SOUND["ollama"], send)).body)["model"] == "any"


@pytest.mark.parametrize(
    "fault",
    [faults.cut(10), faults.cut(0), faults.reset(), faults.raw(b""), faults.raw(b"HTTP/0.9 ?\r\n")],
    ids=["cut", "cut at once", "reset", "closed", "no HTTP"],
)
async def test_broken_answers(fault: faults.Fault) -> None:
    """An answer that breaks off reaches nobody, but its work is on the bill; the next one, over a
    new connection, is whole."""
    async with running_fake() as fake, Transport() as send:
        fake.next(fault)
        with pytest.raises(TransportError) as raised:
            await post(fake, SOUND["openai"], send)
        assert raised.value.was_sent
        (line,) = fake.bill
        assert (line.answered, line.tokens) == (False, 2)
        assert (await post(fake, SOUND["openai"], send)).status == 200
        assert (fake.bill.tokens, fake.bill.texts) == (4, 2)


@pytest.mark.parametrize("begun", [None, 20])
async def test_late_answers(begun: int | None) -> None:
    """An answer that is held back, or stops half-way, comes whole when the event is set."""
    go_on = asyncio.Event()
    async with running_fake() as fake, Transport() as send:
        fake.next(faults.delay(go_on) if begun is None else faults.stall(begun, go_on))
        asking = asyncio.create_task(post(fake, SOUND["openai"], send))
        assert (await fake.arrival()).provider == "openai"
        assert not asking.done()
        assert not fake.bill.lines[0].answered
        go_on.set()
        assert (await asking).status == 200
        assert fake.bill.lines[0].answered


async def test_callers_who_leave() -> None:
    """A caller who goes while he is waited for leaves a line on the bill and nothing else."""
    async with running_fake() as fake, Transport() as send:
        fake.next(faults.delay(asyncio.Event()))
        asking = asyncio.create_task(post(fake, SOUND["openai"], send))
        await fake.arrival()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (line,) = fake.bill
        assert (line.answered, line.tokens) == (False, 2)
