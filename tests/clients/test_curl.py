"""curl as the documentation shows it, and as people shorten it; a bare slash in a path."""

from __future__ import annotations

import http.client
import json
import subprocess
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.gateways import MODEL, Gateway
from tests.clients.reference import Reference

HELLO = "Hello world"
JSON = ["-H", "Content-Type: application/json"]
BODY = json.dumps({"model": MODEL, "input": HELLO})

CASES = {
    "documented": [*JSON, "-d", BODY],
    "without_content_type": ["-d", BODY],
    "chunked": [*JSON, "-H", "Transfer-Encoding: chunked", "-d", BODY],
    "provider": [*JSON, "-d", json.dumps({"model": MODEL, "input": HELLO, "provider": "local"})],
    "json_option": ["--json", BODY],
    "http_1_0": ["--http1.0", *JSON, "-d", BODY],
}


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run curl; what it says goes to standard error."""
    command = [environments.curl(), "-sS", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=30)


def vectors(text: str) -> list[Any]:
    """The vectors of an answer."""
    return [item["embedding"] for item in json.loads(text)["data"]]


@pytest.mark.parametrize("case", CASES)
def test_curl(case: str, keyed: Gateway, reference: Reference) -> None:
    """Every usual way to call curl gets the vector, with a key and the catalogue's defaults."""
    authorization = ["-H", f"Authorization: Bearer {keyed.key}"]
    done = curl(f"{keyed.url}/v1/embeddings", *authorization, *CASES[case])
    reference.check(vectors(done.stdout), [HELLO])


def test_expect_100_continue(keyed: Gateway, reference: Reference) -> None:
    """A curl that waits before it sends a long body is told to go on, at once."""
    text = "word " * 400
    body = json.dumps({"model": MODEL, "input": text})
    headers = [*JSON, "-H", "Expect: 100-continue", "-H", f"Authorization: Bearer {keyed.key}"]
    # Longer than the test may take: without a 100 it would wait, then send all the same.
    done = curl(
        "-v", "--expect100-timeout", "90", *headers, "-d", body, f"{keyed.url}/v1/embeddings"
    )
    assert "HTTP/1.1 100 Continue" in done.stderr
    reference.check(vectors(done.stdout), [text])


def test_expect_100_continue_of_a_big_body(keyed: Gateway) -> None:
    """A curl that asks first is told 413 before it sends a byte of too big a body."""
    headers = [*JSON, "-H", "Expect: 100-continue", "-H", f"Authorization: Bearer {keyed.key}"]
    sized = ["-H", "Content-Length: 100000000", "-d", "{}"]
    done = curl("-v", *headers, *sized, f"{keyed.url}/v1/embeddings")
    assert "100 Continue" not in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "request_too_large"


def test_form_is_no_json(keyed: Gateway) -> None:
    """curl's form default is taken for JSON only if JSON is inside."""
    authorization = ["-H", f"Authorization: Bearer {keyed.key}"]
    done = curl(f"{keyed.url}/v1/embeddings", *authorization, "-d", "model=x&input=y")
    error = json.loads(done.stdout)["error"]
    assert "Content-Type: application/json" in error["message"]


@pytest.mark.parametrize("path", ["local/wordllama-256", "local%2Fwordllama-256", "wordllama-256"])
def test_model_by_its_name(path: str, gateway: Gateway) -> None:
    """A model is found by its full name, its slash as it is or as %2F, and by its bare name."""
    connection = http.client.HTTPConnection(*gateway.address, timeout=30)
    connection.request("GET", f"/v1/models/{path}")
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    assert (response.status, found["id"]) == (200, MODEL)
