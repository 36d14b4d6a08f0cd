"""Requests recorded from real clients, sent again byte for byte as those clients sent them."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import bpe_openai
import numpy as np
import pytest

from tests.clients.environments import HERE
from tests.clients.gateways import MODEL, Gateway
from tests.clients.recordings import Recorded, load_covered, load_recorded
from tests.clients.reference import TOLERANCE, Reference
from tests.clients.vectors import from_base64

RECORDED = load_recorded()
EMPTY = [one for one in RECORDED if one.inputs in ("", [])]
EMBEDDING = [one for one in RECORDED if one.method == "POST" and one not in EMPTY]
READING = [one for one in RECORDED if one.method == "GET"]


def send(one: Recorded, gateway: Gateway) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of the answer. Headers go out as they were recorded."""
    connection = http.client.HTTPConnection(*gateway.address, timeout=30)
    try:
        connection.putrequest(one.method, one.path, skip_accept_encoding=True)
        for name, value in one.headers.items():
            connection.putheader(name, value.replace("KEY", str(gateway.key)))
        data = b"" if one.body is None else json.dumps(one.body, ensure_ascii=False).encode()
        is_chunked = "transfer-encoding" in one.headers
        if data and not is_chunked:
            connection.putheader("content-length", str(len(data)))
        connection.endheaders(data or None, encode_chunked=is_chunked)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, json.loads(response.read())
    finally:
        connection.close()


def texts_of(inputs: Any) -> list[str]:
    """The inputs as texts; token ids are decoded by the package itself."""
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs[0], str):
        return list(inputs)
    encoding = bpe_openai.get_encoding("cl100k_base")
    return [encoding.decode(ids) for ids in ([inputs] if isinstance(inputs[0], int) else inputs)]


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in EMBEDDING])
def test_recorded_request(one: Recorded, keyed: Gateway, reference: Reference) -> None:
    """Each recorded request is answered with one right vector an input, in the form asked for."""
    status, headers, answer = send(one, keyed)
    assert status == 200, answer
    assert headers["content-type"] == "application/json"
    if "embedding-model" in one.path:
        rows = answer["embeddings"]
    else:
        assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
        rows = [item["embedding"] for item in answer["data"]]
        if (one.body or {}).get("encoding_format") == "base64":
            rows = [from_base64(row) for row in rows]
    texts = texts_of(one.inputs)
    vectors = np.asarray(rows, np.float64)
    assert vectors.shape == (len(texts), one.dimensions)
    is_long = max(map(len, texts)) > 10_000
    expected = reference.long_vectors(texts) if is_long else reference.vectors(texts)
    assert np.abs(vectors - expected).max() <= TOLERANCE


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in EMPTY])
def test_recorded_empty_input(one: Recorded, keyed: Gateway) -> None:
    """An empty text or list, which clients do send, is refused and named."""
    status, _, answer = send(one, keyed)
    assert status == 400
    assert answer["error"]["code"] == "invalid_input"
    assert answer["error"]["param"] == ("input[0]" if one.inputs == "" else "input")


@pytest.mark.parametrize("one", [pytest.param(one, id=one.name) for one in READING])
def test_recorded_reading(one: Recorded, keyed: Gateway) -> None:
    """The catalogue, one model, the AI SDK's list and the balance are read as clients ask."""
    status, headers, answer = send(one, keyed)
    assert status == 200
    assert headers["content-type"] == "application/json"
    if one.path.endswith("/credits"):
        assert set(answer) == {"balance", "total_used"}
    elif "%2F" in one.path:
        assert answer["id"] == MODEL
    else:
        listed = answer["models" if one.path.endswith("/config") else "data"]
        assert MODEL in {model["id"] for model in listed}


def test_every_recorded_case_has_its_client() -> None:
    """covered.json names a test for every recorded request, and for nothing else."""
    assert {(one.client, one.case) for one in RECORDED} == {
        (client, case) for client, cases in load_covered().items() for case in cases
    }


def test_named_tests_exist(tmp_path: Path) -> None:
    """Every test that covered.json names is one that pytest finds."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", HERE],
        capture_output=True,
        encoding="utf-8",
        cwd=HERE.parents[1],
        check=True,
    ).stdout
    collected = {line.removeprefix("tests/clients/") for line in found.splitlines()}
    named = {test for cases in load_covered().values() for test in cases.values()}
    assert named <= collected
