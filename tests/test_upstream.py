"""Provider and transport together: what would give a wrong vector is refused."""

import asyncio
import math
import struct

import numpy as np
import orjson
import pytest

from embedway.errors import (
    DeadlineExceeded,
    MalformedResponse,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.provider import AccessKey, HttpRequest, HttpResponse, TransportError
from embedway.providers import PROVIDERS
from embedway.secret import Secret
from embedway.types import Attempt, replace
from embedway.upstream import Upstream
from embedway.vectors import fault
from tests.fakes import (
    FakeClock,
    ScriptedSend,
    answer_openai,
    json_response,
    make_deployment,
    make_request,
    make_vector,
    numbers,
    openai_body,
    until,
)

A, B = make_vector("a"), make_vector("b")


def make_upstream(*answers, clock=None, renewed=None, provider=PROVIDERS["openai"], **deployment):
    """An Upstream with what it sends."""
    send = ScriptedSend(*answers)
    upstream = Upstream(
        provider, make_deployment(**deployment), send, clock or FakeClock(), renewed
    )
    return upstream, send


async def test_answer():
    """The inputs of a request go out in one HTTP request and come back as its embeddings."""
    clock = FakeClock(now=100.0)

    def answer(request):
        clock.advance(0.5)
        return answer_openai(request)

    upstream, send = make_upstream(answer, clock=clock)
    response = await upstream(make_request("a", "b"))

    assert [e.vector for e in response.embeddings] == [A, B]
    assert len(send.requests) == 1
    assert response.attempts == (
        Attempt(
            model="openai/text-embedding-3-small",
            provider="openai",
            upstream_model="text-embedding-3-small",
            started_ms=100_000,
            ended_ms=100_500,
            is_success=True,
            status=200,
        ),
    )


async def test_limits():
    """The transport gets the time that is left, but for what it takes to tell that it is over, and
    a bound that any honest answer fits in."""
    upstream, send = make_upstream(answer_openai, clock=FakeClock(monotonic=1000.0))
    texts = ["🦜" * 100] * 20
    await upstream(make_request(*texts, deadline=1012.5))

    ((timeout_s, max_bytes),) = send.limits
    widest = openai_body(*([-1.1754943508222875e-38] * 8 for _ in texts))
    assert timeout_s == pytest.approx(12.47)
    assert len(orjson.dumps(widest)) < max_bytes < 100_000


@pytest.mark.parametrize(
    ("left", "share", "given"),
    [
        (60.0, 1.0, 59.97),
        (60.0, 0.5, 30.0),
        (0.1, 1.0, 0.098),
        (0.202, 0.5, 0.101),
        (0.19, 0.5, 0.1862),  # too little would be left for anybody else
    ],
)
async def test_time_for_one_account(left, share, given):
    """An account gets its share of the time that is left, and never all of it: whose silence it
    was is told before the caller's time is over."""
    upstream, send = make_upstream(answer_openai, clock=FakeClock(monotonic=1000.0))

    await upstream(make_request(deadline=1000.0 + left, share=share))

    assert send.limits[0][0] == pytest.approx(given)


@pytest.mark.parametrize("left", [0.0, -1.0])
async def test_no_time_left(left):
    """A request whose time is over is not sent, and nobody upstream is blamed."""
    upstream, send = make_upstream(answer_openai, clock=FakeClock(monotonic=1000.0))

    with pytest.raises(DeadlineExceeded) as caught:
        await upstream(make_request(deadline=1000.0 + left))

    assert send.requests == []
    assert caught.value.attempts == ()


def packed(*values):
    """Little-endian float32."""
    return struct.pack(f"<{len(values)}f", *values)


WRONG = {
    "too few": openai_body(A),
    "too many": openai_body(A, B, B),
    "none": openai_body(),
    "too short": openai_body(A, B[:28]),
    "too long": openai_body(A, B + bytes(4)),
    "no vector": openai_body(A, b""),
    "base64 of a broken length": openai_body(A, B[:31]),
    "floats: too short": openai_body(numbers(A), numbers(B)[:7]),
    "floats: too long": openai_body(numbers(A), [*numbers(B), 1.0]),
    "floats: none": openai_body(numbers(A), []),
    "NaN": openai_body(A, packed(math.nan, *[1.0] * 7)),
    "infinity": openai_body(A, packed(*[1.0] * 7, math.inf)),
    "float32 overflow": openai_body(numbers(A), [1e39] * 8),
    "zeros": openai_body(A, bytes(32)),
    "zeros as floats": openai_body(A, [0.0] * 8),
    "doubled index": openai_body(A, B) | {"data": [openai_body(A)["data"][0]] * 2},
    "an error in a 200": {"error": {"message": "the model is loading"}},
    "HTML": b"<!doctype html><title>Login</title>",
    "truncated": orjson.dumps(openai_body(A, B))[:-40],
    "empty": b"",
    "bracket bomb": b'{"x":' + b"[" * 60_000,
    "no UTF-8": b'{"data":[{"embedding":"\xff\xff"}]}',
    "another shape": {"embeddings": [[1.0] * 8] * 2},
}


@pytest.mark.parametrize("body", list(WRONG.values()), ids=list(WRONG))
async def test_wrong_answers(body):
    """An answer from which one wrong vector would come is refused whole, and not blamed on the
    caller."""
    upstream, _ = make_upstream(json_response(body))

    with pytest.raises(MalformedResponse) as caught:
        await upstream(make_request("a", "b"))

    error = caught.value
    assert (error.provider, error.upstream_status, error.status) == ("openai", 200, 502)
    assert "refused rather than passed on" in error.message
    assert [(a.is_success, a.status, a.error) for a in error.attempts] == [
        (False, 200, "provider_invalid_response")
    ]


async def test_names_the_wrong_vector():
    """The refusal says which vector was wrong and in what."""
    upstream, _ = make_upstream(json_response(openai_body(A, B[:28])))

    with pytest.raises(MalformedResponse, match="vector 1 has 7 dimensions instead of 8"):
        await upstream(make_request("a", "b"))


@pytest.mark.parametrize("given", [3, 8, 9])
async def test_dimensions_are_checked(given):
    """Where fewer dimensions were asked for, an answer of any other width is refused."""
    vector = make_vector("a", dimensions=given)
    upstream, _ = make_upstream(json_response(openai_body(vector)))

    with pytest.raises(MalformedResponse):
        await upstream(make_request("a", dimensions=4))


async def test_native_dimensions():
    """Where the provider has a field for shorter vectors, it makes them, and they stay as they
    came."""
    upstream, send = make_upstream(answer_openai)
    response = await upstream(make_request("a", dimensions=4))

    assert send.bodies[0]["dimensions"] == 4
    assert response.embeddings[0].vector == make_vector("a", dimensions=4)


async def test_cut_here():
    """Where the provider has no such field, the whole vector is asked for, cut, and made a unit
    vector again."""
    upstream, send = make_upstream(answer_openai, takes_dimensions=False)
    response = await upstream(make_request("a", dimensions=4))

    assert "dimensions" not in send.bodies[0]
    kept = np.array(numbers(A)[:4])
    assert numbers(response.embeddings[0].vector) == pytest.approx(kept / np.linalg.norm(kept))


async def test_nothing_left_after_the_cut():
    """A vector of which only zeros are left after the cut is refused as well."""
    vector = packed(0, 0, 0, 0, 1, 0, 0, 0)
    upstream, _ = make_upstream(json_response(openai_body(vector)), takes_dimensions=False)

    with pytest.raises(MalformedResponse, match="all zeros"):
        await upstream(make_request("a", dimensions=4))


@pytest.mark.parametrize(
    ("normalised", "wanted", "is_unit"),
    [
        ("always", None, False),
        ("approximately", None, False),
        ("unknown", None, False),
        ("never", None, True),
        ("never", 4, True),
        ("only_full", None, False),
        ("only_full", 4, True),
        ("always", 4, False),
    ],
)
async def test_normalises(normalised, wanted, is_unit):
    """Vectors that do not come with length one from the provider leave with length one; the others
    are not touched, not even in the last bit."""
    sent = np.array([3.0, 4.0, 1.0, 2.0, 5.0, 6.0, 7.0, 8.0][:wanted], "<f4")
    upstream, _ = make_upstream(json_response(openai_body(sent.tobytes())), normalised=normalised)

    (embedding,) = (await upstream(make_request("a", dimensions=wanted))).embeddings

    if is_unit:
        assert numbers(embedding.vector) == pytest.approx(sent / np.linalg.norm(sent))
    else:
        assert embedding.vector == sent.tobytes()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, UpstreamUnauthorized, "provider_unauthorized"),
        (429, UpstreamRateLimited, "rate_limit_exceeded"),
        (503, UpstreamUnavailable, "provider_unavailable"),
        (302, UpstreamUnavailable, "provider_unavailable"),
        (199, UpstreamUnavailable, "provider_unavailable"),
    ],
)
async def test_explains(status, kind, code):
    """Whatever is not 2xx is explained by the provider, and the attempt is written down."""
    clock = FakeClock(now=5.0)
    upstream, _ = make_upstream(HttpResponse(status, {"retry-after": "3"}, b"{}"), clock=clock)

    with pytest.raises(kind) as caught:
        await upstream(make_request())

    (attempt,) = caught.value.attempts
    assert (attempt.status, attempt.error, attempt.is_success) == (status, code, False)
    assert (attempt.started_ms, attempt.credential_type) == (5000, "system")


@pytest.mark.parametrize("status", [200, 201, 299])
async def test_success_statuses(status):
    """Every 2xx is an answer."""
    upstream, _ = make_upstream(json_response(openai_body(A), status))

    assert (await upstream(make_request("a"))).attempts[0].status == status


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (TransportError("it cannot be reached", was_sent=False), UpstreamUnavailable, 503),
        (TransportError("its answer broke off", was_sent=True), UpstreamUnavailable, 503),
        (TransportError("slow", was_sent=True, is_timeout=True), UpstreamTimeout, 504),
        (TransportError("slow", was_sent=False, is_timeout=True), UpstreamTimeout, 504),
    ],
)
async def test_transport_errors(error, kind, code):
    """An upstream that cannot be reached is unavailable, one that is too slow has timed out."""
    upstream, _ = make_upstream(error, name="main")

    with pytest.raises(kind, match=f"main: {error.reason}") as caught:
        await upstream(make_request())

    assert caught.value.status == code
    assert caught.value.retryable
    assert [a.status for a in caught.value.attempts] == [None]


async def test_own_credential():
    """A caller's own credential goes in place of the operator's; then he pays, and the call costs
    nothing here."""
    upstream, send = make_upstream(answer_openai)
    response = await upstream(make_request("a", credentials={"openai": Secret("sk-caller")}))

    assert send.requests[0].headers["authorization"] == "Bearer sk-caller"
    assert (response.embeddings[0].tokens, response.embeddings[0].cost) == (4, 0)
    assert response.attempts[0].credential_type == "byok"


async def test_credential_of_another_provider():
    """A caller's credential for another provider is sent to nobody."""
    upstream, send = make_upstream(answer_openai)
    response = await upstream(make_request("a", credentials={"cohere": Secret("co-caller")}))

    assert send.requests[0].headers["authorization"] == "Bearer sk-operator-0123456789"
    assert b"co-caller" not in send.requests[0].body
    assert response.embeddings[0].cost == 4 * 20_000
    assert response.attempts[0].credential_type == "system"


async def test_fetched_token():
    """Where the credential must be fetched, it is fetched for the request; a caller's own goes
    before it."""
    fetched = []

    async def fetch():
        fetched.append(1)
        return Secret("fetched")

    upstream, send = make_upstream(answer_openai, renewed=fetch, credential=None)
    await upstream(make_request("a"))
    await upstream(make_request("a", credentials={"openai": Secret("sk-caller")}))

    assert [r.headers["authorization"] for r in send.requests] == [
        "Bearer fetched",
        "Bearer sk-caller",
    ]
    assert fetched == [1]


async def test_token_cannot_be_fetched():
    """A token that cannot be fetched is a failed attempt at the provider."""

    async def fetch():
        raise UpstreamUnavailable("no token", provider="openai")

    upstream, send = make_upstream(answer_openai, renewed=fetch)

    with pytest.raises(UpstreamUnavailable) as caught:
        await upstream(make_request("a"))

    assert len(caught.value.attempts) == 1
    assert send.requests == []


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.openai.com/v1", "https://evil.example/v1/embeddings"),
        ("https://api.openai.com", "https://api.openai.com.evil.example/embeddings"),
        ("https://api.openai.com", "https://api.openai.com@evil.example/embeddings"),
        ("https://api.openai.com/v1", "http://api.openai.com/v1/embeddings"),
    ],
)
async def test_foreign_url(base_url, url):
    """A URL outside the account's own address is a bug of the adapter, and nothing is sent."""
    evil = replace(
        PROVIDERS["openai"], build=lambda request, deployment: HttpRequest("POST", url, {}, b"")
    )
    upstream, send = make_upstream(answer_openai, provider=evil, base_url=base_url)

    with pytest.raises(RuntimeError, match="outside its base URL"):
        await upstream(make_request("a"))

    assert send.requests == []


@pytest.mark.parametrize("is_private", [True, False])
async def test_private_account(is_private):
    """The transport is told whether the account may be inside the operator's network."""
    upstream, send = make_upstream(answer_openai, is_private=is_private)
    await upstream(make_request("a"))

    assert send.requests[0].is_private is is_private


async def test_cancellation():
    """A caller who hangs up cancels the HTTP request."""
    ended = []

    async def hang(_):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(1)

    upstream, send = make_upstream(lambda request: hang(request))
    task = asyncio.create_task(upstream(make_request("a")))
    await until(lambda: send.requests)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]


async def test_no_secret_is_told():
    """Neither an error nor the repr of an Upstream holds the credential."""
    upstream, _ = make_upstream(HttpResponse(401, {}, b'{"error":{"message":"bad sk-oper"}}'))

    with pytest.raises(UpstreamUnauthorized) as caught:
        await upstream(make_request("a"))

    told = f"{caught.value} {caught.value!r} {upstream!r} {caught.value.attempts!r}"
    assert "sk-operator" not in told


def test_fakes_are_sound():
    """The deterministic vectors of the tests are sound themselves."""
    assert fault(A, 8) is None
    assert A != B


async def test_bracket_bomb_in_an_error():
    """An error body that no reader can nest so deeply is explained by its status alone."""
    bomb = HttpResponse(503, {}, b'{"x":' + b"[" * 200_000)

    def explain(deployment, response):
        if response.body:
            raise RecursionError
        return UpstreamUnavailable("no words", provider=deployment.name)

    upstream, _ = make_upstream(bomb, provider=replace(PROVIDERS["openai"], explain=explain))

    with pytest.raises(UpstreamUnavailable, match="no words"):
        await upstream(make_request("a"))


@pytest.mark.parametrize("has_key", [True, False])
async def test_signing(has_key):
    """A request is signed at the clock's time where the account has a key to sign with; a caller
    who sends his own credential is not signed for."""
    signed = []

    def sign(request, deployment, now):
        signed.append(now)
        return replace(request, headers={**request.headers, "x-signed": deployment.access_key.id})

    key = AccessKey(id="AKID", secret=Secret("s")) if has_key else None
    upstream, send = make_upstream(
        answer_openai,
        provider=replace(PROVIDERS["openai"], sign=sign),
        clock=FakeClock(now=77.0),
        access_key=key,
    )
    await upstream(make_request("a"))
    await upstream(make_request("a", credentials={"openai": Secret("sk-caller")}))

    assert signed == ([77.0] if has_key else [])
    assert [r.headers.get("x-signed") for r in send.requests] == ["AKID" if has_key else None, None]
