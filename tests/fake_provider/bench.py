"""A gateway over the fake, and the laws that every answer must keep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from embedway.accounts import served_models
from embedway.catalog import Catalog, Model
from embedway.catalog_file import load_catalog
from embedway.gateway import Gateway, build_gateway
from embedway.own_models import with_own_models
from embedway.provider import Deployment, Send
from embedway.types import EmbedRequest, EmbedResponse, replace
from tests.fake_provider.accounts import settings as fake_settings
from tests.fake_provider.server import FakeProvider
from tests.fake_provider.vectors import expected_vector
from tests.fakes import FakeClock, MemoryBook

CATALOG = load_catalog()
UNCOUNTED = {"together"}
"""Providers that never say how many tokens they counted; of Google's models, one does."""


@dataclass(frozen=True)
class Bench:
    """A gateway with one account, and the fake behind it."""

    fake: FakeProvider
    gateway: Gateway
    book: MemoryBook
    catalog: Catalog
    deployments: dict[str, Deployment]
    """By our name of the model."""
    clock: FakeClock

    def ask(self, request: EmbedRequest) -> EmbedResponse:
        """One request and one attempt, with clean books, a minute after the last one: what failed
        then is well again."""
        self.clock.advance(60)
        call = replace(request.call, deadline=self.clock.monotonic() + 60, retries=0)
        request = replace(request, call=call)
        self.fake.bill.clear()
        self.book.lines.clear()
        return asyncio.run(self.gateway(request))


@dataclass(frozen=True)
class Wanted:
    """One question, as a caller has it."""

    model: str
    texts: list[str]
    dimensions: int | None
    input_type: Literal["query", "document"] | None


def make_bench(fake: FakeProvider, provider: str, send: Send, **changes: Any) -> Bench:
    """A bench whose requests go out through *send*; *changes* are of the account."""
    configured, book = fake_settings(fake, provider, **changes), MemoryBook()
    clock = FakeClock()
    gateway = build_gateway(
        settings=configured,
        catalog=CATALOG,
        local=None,
        send=send,
        book=book,
        count=book,
        clock=clock,
    )
    catalog = with_own_models(configured, CATALOG)
    served = served_models(configured, catalog)
    deployments = {s.deployment.model: s.deployment for s in served}
    return Bench(fake, gateway, book, catalog, deployments, clock)


def model_of(bench: Bench, name: str) -> Model:
    """The model of the catalogue."""
    found = bench.catalog.find(name)
    assert found is not None
    return found.model


def true_vectors(
    served: Bench, asked: Wanted, read: Callable[[str], str | Sequence[int]] = str
) -> list[bytes]:
    """What the caller must get, from the catalogue and the fake's formula alone. read: what a
    provider that cuts long texts has read of one."""
    deployment, model = served.deployments[asked.model], model_of(served, asked.model)
    field = deployment.input_type
    words = asked.input_type or model.input_type_default
    native = field.value(words) if field and words and model.input_types else None
    before, task = ("", native) if field and field.param else (native, "")
    wanted = asked.dimensions or model.dimensions.default
    native_width = wanted if deployment.takes_dimensions else model.dimensions.default
    found = [
        expected_vector(
            read(f"{before or ''}{text}"), deployment.upstream_model, native_width, task or ""
        )
        for text in asked.texts
    ]
    return found if native_width == wanted else [_cut(vector, wanted) for vector in found]


def _cut(vector: bytes, dimensions: int) -> bytes:
    numbers = np.frombuffer(vector, "<f4")[:dimensions].astype(np.float64)
    return bytes((numbers / np.linalg.norm(numbers)).astype("<f4").tobytes())


def check_vectors(found: list[bytes], expected: list[bytes]) -> None:
    """The same vectors in the same order, of length 1, as near as float32 can be."""
    assert [len(vector) for vector in found] == [len(vector) for vector in expected]
    for got, true in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            np.frombuffer(got, "<f4"), np.frombuffer(true, "<f4"), rtol=1e-5, atol=1e-7
        )


def check_books(served: Bench, asked: Wanted, response: EmbedResponse) -> None:
    """Tokens and money to the last one, as the fake has counted them."""
    deployment, bill = served.deployments[asked.model], served.fake.bill
    counted = deployment.name not in UNCOUNTED and (
        deployment.name != "google" or asked.model.endswith("-2")
    )
    assert bill.texts == len(set(asked.texts))  # a double is asked once
    assert all(line.answered and line.status == 200 for line in bill)
    assert {embedding.is_estimated for embedding in response.embeddings} == {not counted}
    # Usage counts the tokens of every input; those of a double cost nothing.
    counts = [embedding.tokens for embedding in response.embeddings]
    paid = sum(dict(zip(asked.texts, counts, strict=True)).values())
    assert paid == bill.tokens or not counted
    cost = paid * deployment.price
    if deployment.price_per_character:
        cost = bill.characters * deployment.price_per_character
    assert sum(embedding.cost for embedding in response.embeddings) == cost
    tokens = sum(counts)
    (line,) = set(served.book.lines)
    assert (line.tokens, line.cost, line.inputs) == (tokens, cost, len(asked.texts))
