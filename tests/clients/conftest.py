"""One gateway a run for all clients, another that asks for a key, and a fake provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.environments import HERE, run, script
from tests.clients.fake_openai import FAILS, LIMITS, serving
from tests.clients.gateways import MODEL, Gateway, started
from tests.clients.reference import Reference

Ask = Callable[[str, str], dict[str, Any]]


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The URL of a provider that gives errors on demand."""
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def gateway(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a key, as after `embedway serve`."""
    with started(tmp_path_factory.mktemp("open"), upstream, has_key=False) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def keyed(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that wants a key."""
    with started(tmp_path_factory.mktemp("keyed"), upstream, has_key=True) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The vectors that must come out."""
    return Reference()


@pytest.fixture(scope="session")
def texts() -> dict[str, Any]:
    """The texts that clients send, for all languages."""
    loaded: dict[str, Any] = json.loads((HERE / "texts.json").read_text("utf-8"))
    return loaded


@pytest.fixture(scope="session")
def ask(
    gateway: Gateway,
    keyed: Gateway,
    texts: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Ask:
    """`ask(script, case)`: what a client made of a case. A script runs once, all its cases."""
    question = {
        "url": gateway.url,
        "keyed_url": keyed.url,
        "key": keyed.key,
        "model": MODEL,
        "fails": FAILS,
        "limits": LIMITS,
        **texts,
    }
    answers: dict[str, dict[str, Any] | AssertionError] = {}

    def answer(name: str, case: str) -> dict[str, Any]:
        command = script(name)
        if name not in answers:
            try:
                answers[name] = run(command, question, tmp_path_factory.mktemp("client"))
            except AssertionError as error:
                answers[name] = error
        found = answers[name]
        if isinstance(found, AssertionError):
            raise found
        result: dict[str, Any] = found[case]
        return result

    return answer
