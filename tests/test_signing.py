"""Signature Version 4, against AWS's own signer."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from embedway.provider import HttpRequest
from embedway.secret import Secret
from embedway.signing import sign

NOW = 1_795_233_657.9
PLAIN = HttpRequest(
    "POST",
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.titan-embed-text-v2%3A0/invoke",
    {"content-type": "application/json", "accept": "application/json"},
    b'{"inputText":"Hello, world!"}',
)

# Texts as they stand in a URL: unreserved, reserved, or percent-encoded, of any length.
_PIECE = st.sampled_from(
    [
        "a",
        "Z",
        "0",
        "-",
        "_",
        ".",
        "~",
        "%3A",
        "%2F",
        "%20",
        "%C3%A4",
        "%25",
        ":",
        "@",
        "!",
        "$",
        "'",
        "(",
        ")",
        "*",
        "+",
        ",",
        ";",
    ]
)
_SEGMENT = st.lists(_PIECE, max_size=6).map("".join)
_PATH = st.lists(_SEGMENT | st.just("..") | st.just("."), max_size=5).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
_PAIR = st.tuples(_SEGMENT, _SEGMENT, st.sampled_from(["=", "", "=="])).map(
    lambda parts: f"{parts[0]}{parts[2]}{parts[1]}"
)
_QUERY = st.lists(_PAIR, max_size=5).map("&".join).map(lambda query: query and f"?{query}")
_HOST = st.sampled_from(
    ["bedrock-runtime.eu-west-3.amazonaws.com", "Host.EXAMPLE", "127.0.0.1", "[::1]"]
)
_PORT = st.sampled_from(["", ":80", ":443", ":8443"])
_NAMES = [
    "accept",
    "Content-Type",
    "X-Custom",
    "x-amz-target",
    "a-header",
    "Host",
    "authorization",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "User-Agent",
    "traceparent",
    "X-Amzn-Trace-Id",
    "Connection",
    "baggage",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
]
_HEADERS = st.dictionaries(
    st.sampled_from(_NAMES), st.text(" \tabcXYZ019/;=,\"'", max_size=12), max_size=6
)
_REQUESTS = st.builds(
    HttpRequest,
    st.sampled_from(["POST", "GET", "put", "DELETE"]),
    st.tuples(st.sampled_from(["https://", "http://"]), _HOST, _PORT, _PATH, _QUERY).map("".join),
    _HEADERS,
    st.binary(max_size=40),
)
_WORDS = st.text("abcXYZ019/+=-", min_size=1, max_size=40)


def _botocores(request: HttpRequest, now: float, token: str | None, secret: str) -> dict[str, str]:
    """The headers that AWS's own SDK for Python would send, lower-case."""
    credentials = SimpleNamespace(access_key="AKIDEXAMPLE", secret_key=secret, token=token)
    theirs = AWSRequest(request.method, request.url, dict(request.headers), request.body)
    with patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(now, UTC)):
        SigV4Auth(credentials, "bedrock", "eu-west-3").add_auth(theirs)
    return {name.lower(): value for name, value in theirs.headers.items()}


def _ours(request: HttpRequest, now: float, token: str | None, secret: str) -> HttpRequest:
    return sign(
        request,
        access_key_id="AKIDEXAMPLE",
        secret_access_key=Secret(secret),
        session_token=None if token is None else Secret(token),
        region="eu-west-3",
        service="bedrock",
        now=now,
    )


@settings(max_examples=400, deadline=None)
@given(_REQUESTS, st.floats(0, 4e9), st.none() | _WORDS, _WORDS)
@example(PLAIN, NOW, None, "wJalrXUtnFEMI/K7MDENG")
@example(PLAIN, NOW, "a session token", "wJalrXUtnFEMI/K7MDENG")
def test_signature_is_botocores(
    request: HttpRequest, now: float, token: str | None, secret: str
) -> None:
    """Any request gets the very headers that botocore's signer gives it."""
    # botocore keeps a token that is not the credential's; we take it away.
    assume(token is not None or "X-Amz-Security-Token" not in request.headers)
    signed = _ours(request, now, token, secret)
    assert {n.lower(): v for n, v in signed.headers.items()} == _botocores(
        request, now, token, secret
    )


def test_nothing_but_headers_changes() -> None:
    """The method, URL, body and other headers of a signed request are those it had."""
    signed = _ours(PLAIN, NOW, None, "secret")
    assert (signed.method, signed.url, signed.body) == (PLAIN.method, PLAIN.url, PLAIN.body)
    assert signed.headers.items() >= PLAIN.headers.items()


def test_secret_is_not_sent() -> None:
    """A signed request holds the access key's id, and never its secret."""
    signed = _ours(PLAIN, NOW, None, "wJalrXUtnFEMI")
    assert "AKIDEXAMPLE" in signed.headers["authorization"]
    assert "wJalrXUtnFEMI" not in repr(signed)


def test_signing_again_renews() -> None:
    """A request that was signed before is signed as if it had not been."""
    once = _ours(PLAIN, NOW, "token", "secret")
    assert _ours(once, NOW + 900, None, "secret") == _ours(PLAIN, NOW + 900, None, "secret")


@pytest.mark.parametrize(
    "other",
    [
        HttpRequest("GET", PLAIN.url, PLAIN.headers, PLAIN.body),
        HttpRequest("POST", f"{PLAIN.url}/more", PLAIN.headers, PLAIN.body),
        HttpRequest("POST", f"{PLAIN.url}?a=b", PLAIN.headers, PLAIN.body),
        HttpRequest("POST", PLAIN.url.replace("us-", "eu-"), PLAIN.headers, PLAIN.body),
        HttpRequest("POST", PLAIN.url, {"accept": "*/*"}, PLAIN.body),
        HttpRequest("POST", PLAIN.url, PLAIN.headers, b"{}"),
    ],
    ids=["method", "path", "query", "host", "headers", "body"],
)
def test_all_that_matters_is_signed(other: HttpRequest) -> None:
    """A change of any part of the request changes its signature."""
    signature = _ours(PLAIN, NOW, None, "secret").headers["authorization"]
    assert _ours(other, NOW, None, "secret").headers["authorization"] != signature
