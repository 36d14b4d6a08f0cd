from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedway import errors
from embedway.errors import EmbedError, UpstreamError
from embedway.provider import TransportError
from embedway.server.envelope import internal_error, render_error
from embedway.server.error_codes import MEANINGS, error_classes, error_table
from embedway.server.messages import Incoming, Outgoing
from tests.asgi import embed
from tests.fakes import json_response
from tests.server.provider import SMALL, failure, with_openai

CLASSES = tuple(dict.fromkeys(error_classes()))

# Section 4 of the contract: status and type to the codes they go with.
TABLE = {
    (400, "invalid_request_error"): {
        "invalid_input",
        "token_limit_exceeded",
        "invalid_parameter",
        "unsupported_dimensions",
    },
    (401, "authentication_error"): {
        "missing_api_key",
        "invalid_api_key",
        "expired_api_key",
        "revoked_api_key",
    },
    (402, "insufficient_quota"): {"budget_exceeded"},
    (403, "permission_error"): {"model_not_allowed", "insufficient_permissions"},
    (404, "invalid_request_error"): {"model_not_found", "not_found"},
    (405, "invalid_request_error"): {"method_not_allowed"},
    (408, "invalid_request_error"): {"request_timeout"},
    (409, "invalid_request_error"): {"space_mismatch"},
    (413, "invalid_request_error"): {"request_too_large"},
    (415, "invalid_request_error"): {"unsupported_media_type"},
    (429, "rate_limit_error"): {"rate_limit_exceeded"},
    (431, "invalid_request_error"): {"headers_too_large"},
    (500, "internal_server_error"): {"internal_error"},
    (502, "provider_error"): {
        "provider_unauthorized",
        "provider_invalid_response",
        "provider_unavailable",
    },
    (503, "provider_error"): {"provider_unavailable"},
    (503, "overloaded_error"): {"overloaded", "ledger_unavailable"},
    (504, "provider_error"): {"provider_timeout"},
}


def make(kind: type[EmbedError], **fields: Any) -> EmbedError:
    """An error of that class, with what it demands."""
    demanded = {"model": "a/b", "allow": "GET", "provider": "openai"}
    names = inspect.signature(kind).parameters
    wanted = {name: value for name, value in demanded.items() if name in names}
    given = {name: value for name, value in fields.items() if name in names}
    return kind("What happened; what to do.", **wanted, **given)


def render(error: EmbedError) -> tuple[Outgoing, dict[str, Any], dict[str, str]]:
    """The answer, what stands in its envelope, and its headers."""
    incoming = Incoming(method="POST", path="/v1/embeddings", headers={})
    outgoing = render_error(error, incoming, "01M2RV50ENRGT4K2CHJ0WC4N1H")
    headers = {name.decode(): value.decode() for name, value in outgoing.headers}
    return outgoing, orjson.loads(outgoing.body)["error"], headers


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_the_envelope(kind: type[EmbedError]) -> None:
    """Every class renders all four keys, the page about its code, and the provider that failed;
    its status, type and code stand together in the contract's table."""
    outgoing, inner, headers = render(make(kind, param="input[3]"))
    assert outgoing.status == kind.status
    assert kind.code in TABLE[kind.status, kind.type]
    assert (inner["type"], inner["code"]) == (kind.type, kind.code)
    assert inner["message"] == "What happened; what to do."
    assert "param" in inner
    assert inner["doc_url"] == f"/docs#{kind.code}"
    assert inner.get("provider") == ("openai" if issubclass(kind, UpstreamError) else None)
    assert set(inner) - {"provider"} == {"message", "type", "param", "code", "doc_url"}
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "req_01M2RV50ENRGT4K2CHJ0WC4N1H"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_clients_are_told_whether_to_try_again(kind: type[EmbedError]) -> None:
    """Only errors of our own that pass by are worth another try of the client's: all others say
    `x-should-retry: false`, as our own attempts are spent."""
    may_retry = {
        errors.RateLimited,
        errors.Overloaded,
        errors.LedgerUnavailable,
        errors.RequestTimeout,
    }
    _, _, headers = render(make(kind))
    assert headers.get("x-should-retry") == (None if kind in may_retry else "false")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("seconds", "header"),
    [(None, None), (-5, "0"), (0, "0"), (0.2, "1"), (7, "7"), (120, "120"), (121, "120")],
)
def test_retry_after_is_short_and_whole(
    kind: type[EmbedError], seconds: float | None, header: str | None
) -> None:
    """`Retry-After` is whole seconds, never less than was said, at most 120."""
    error = make(kind)
    error.retry_after_s = seconds
    assert render(error)[2].get("retry-after") == header


def test_every_class_is_told_in_the_tree() -> None:
    """The drawing at the head of the module names every class."""
    drawn = set(re.findall(r"[A-Z][A-Za-z]+", (errors.__doc__ or "").partition("`status`")[0]))
    assert {kind.__name__ for kind in CLASSES} <= drawn


def test_a_code_means_one_thing() -> None:
    """Each code has one type and one meaning; classes share a code only if a caller must do the
    same about them."""
    rows = error_table()
    assert [row["code"] for row in rows if len(row["types"]) > 1] == []
    assert {row["code"] for row in rows} == set(MEANINGS)
    assert len({row["when"] for row in rows}) == len(rows)
    assert {kind.code for kind in CLASSES} == {code for codes in TABLE.values() for code in codes}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_message_is_all_that_some_clients_print(kind: type[EmbedError]) -> None:
    """`str()` of an error is its message, for logs and for the command line."""
    assert str(make(kind)) == "What happened; what to do."


ANSWERS = [
    (failure(400, "bad dimensions"), 400, "invalid_parameter", "bad dimensions"),
    (failure(401, "sk-operator-0123456789"), 502, "provider_unauthorized", "operator"),
    (failure(403), 502, "provider_unauthorized", "operator"),
    (failure(404), 404, "model_not_found", ""),
    (failure(429, "slow down", **{"retry-after": "3600"}), 429, "rate_limit_exceeded", "slow"),
    (failure(500), 503, "provider_unavailable", "500"),
    (failure(503, "busy", **{"retry-after": "7"}), 503, "provider_unavailable", "busy"),
    (json_response(b"<html>"), 502, "provider_invalid_response", "openai"),
    (json_response({"data": []}), 502, "provider_invalid_response", "0 vectors"),
    (TransportError("it cannot be reached", was_sent=False), 503, "provider_unavailable", ""),
    (
        TransportError("too long", was_sent=True, is_timeout=True),
        504,
        "provider_timeout",
        "openai",
    ),
]


@pytest.mark.parametrize(("answer", "status", "code", "word"), ANSWERS)
async def test_a_provider_that_fails(
    tmp_path: Path, answer: Any, status: int, code: str, word: str
) -> None:
    """A provider's failure has the contract's status and code, names the provider, keeps our
    credential to itself, and is not to be tried again at once."""
    context, send = with_openai(tmp_path, answer)
    async with context as app:
        response = await embed(app, model=SMALL)
    error = response.error
    assert (response.status, error["code"], error["provider"]) == (status, code, "openai")
    assert word in error["message"]
    assert "sk-operator" not in response.body.decode()
    assert response.headers["x-should-retry"] == "false"
    assert int(response.headers.get("retry-after", 0)) <= 120
    assert send.requests


async def test_a_bug_is_told_by_its_id_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw is a 500 that holds the request's id and no detail; the log has both."""
    context, _ = with_openai(tmp_path, RuntimeError("a secret detail"))
    with caplog.at_level(logging.ERROR):
        async with context as app:
            response = await embed(app, model=SMALL)
    assert (response.status, response.error["code"]) == (500, "internal_error")
    assert "secret" not in response.body.decode()
    id = response.headers["x-request-id"]
    assert id in response.error["message"]
    assert id in caplog.text
    assert "a secret detail" in caplog.text
    assert internal_error("X").message.endswith("req_X.")
