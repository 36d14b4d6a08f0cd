"""Vertex AI: what the recordings do not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from embedway import errors
from embedway.catalog_file import load_catalog
from embedway.options import ALLOWED, DIMENSIONS
from embedway.provider import Deployment
from embedway.providers.vertex import VERTEX
from tests.fakes import json_response, make_deployment, make_request, numbers

CATALOG = load_catalog()
PREDICT, EMBED_CONTENT = "google/text-embedding-005", "google/gemini-embedding-2"


def _deployment(model: str = PREDICT, **changes: Any) -> Deployment:
    found = CATALOG.find(model)
    assert found is not None
    offer = found.model.offer("vertex")
    assert offer is not None
    fields = {
        "name": "vertex",
        "model": model,
        "upstream_model": offer.upstream_id,
        "dimensions": found.model.dimensions.default,
        "base_url": "https://europe-west4-aiplatform.googleapis.com",
        "input_type": offer.input_type,
        "project": "p-1",
        "location": "europe-west4",
        **changes,
    }
    return make_deployment(**fields)


def _body(*texts: str, on: Deployment | None = None, **fields: Any) -> dict[str, Any]:
    built = VERTEX.build(make_request(*texts, **fields), on or _deployment())
    return dict(orjson.loads(built.body))


@pytest.mark.parametrize(
    ("model", "verb"),
    [
        ("google/text-embedding-004", "predict"),
        ("google/text-embedding-005", "predict"),
        ("google/text-multilingual-embedding-002", "predict"),
        ("google/gemini-embedding-001", "embedContent"),
        ("google/gemini-embedding-2", "embedContent"),
    ],
)
def test_every_model_has_its_method(model: str, verb: str) -> None:
    """Gemini models are asked by embedContent, all others by predict."""
    on = _deployment(model)
    assert VERTEX.build(make_request(), on).url == (
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p-1/locations/europe-west4"
        f"/publishers/google/models/{on.upstream_model}:{verb}"
    )


def test_hosted_open_models_are_asked_by_embed_content() -> None:
    """A model whose name says "maas" (model as a service) has no predict."""
    on = _deployment(upstream_model="some-embedding-maas")
    assert VERTEX.build(make_request(), on).url.endswith("/some-embedding-maas:embedContent")


def test_every_offer_of_the_catalogue_has_a_method() -> None:
    """What the catalogue says of the field for dimensions agrees with the method that is used."""
    for model in CATALOG.models:
        if (offer := model.offer("vertex")) is None:
            continue
        body = _body(on=_deployment(model.id), dimensions=model.dimensions.default - 1)
        holder, _, name = str(offer.dimensions_param).partition(".")
        assert body[holder][name] == model.dimensions.default - 1


@pytest.mark.parametrize(
    ("project", "header", "value"),
    [
        ("p-1", "authorization", "Bearer sk-operator-0123456789"),
        ("", "x-goog-api-key", "sk-operator-0123456789"),
    ],
)
def test_credential(project: str, header: str, value: str) -> None:
    """A project's credential is an access token; without a project it is an API key. Only one of
    the two headers is ever sent."""
    sent = VERTEX.build(make_request(), _deployment(project=project)).headers
    assert {name: sent[name] for name in ("authorization", "x-goog-api-key") if name in sent} == {
        header: value
    }


def test_names_cannot_leave_their_places_in_the_path() -> None:
    """Project, location and model are escaped in the URL."""
    on = _deployment(project="a/b", location="c?d", upstream_model="e#f/g")
    assert VERTEX.build(make_request(), on).url.endswith(
        "/v1/projects/a%2Fb/locations/c%3Fd/publishers/google/models/e%23f%2Fg:predict"
    )


@pytest.mark.parametrize(
    ("input_type", "sent"),
    [
        ("query", "RETRIEVAL_QUERY"),
        ("document", "RETRIEVAL_DOCUMENT"),
        ("CLUSTERING", "CLUSTERING"),
        (None, None),
    ],
)
def test_task_type(input_type: str | None, sent: str | None) -> None:
    """predict gets the task as task_type, in snake case, with every text."""
    instances = _body("a", "b", input_type=input_type)["instances"]
    assert [instance.get("task_type") for instance in instances] == [sent, sent]
    assert [instance["content"] for instance in instances] == ["a", "b"]
    assert not any("taskType" in instance for instance in instances)


def test_task_as_words() -> None:
    """embedContent, whose models ignore taskType, gets the task as words before the text."""
    body = _body("a", on=_deployment(EMBED_CONTENT), input_type="query")
    assert body == {
        "content": {"parts": [{"text": "task: search result | query: a"}], "role": "user"},
        "embedContentConfig": {"autoTruncate": False},
    }


def test_embed_content_takes_one_text() -> None:
    """Two texts are never sent as parts of one content, where they would become one vector."""
    with pytest.raises(ValueError, match="too many values"):
        _body("a", "b", on=_deployment(EMBED_CONTENT))


@pytest.mark.parametrize("provider", ["vertex"])
@pytest.mark.parametrize("name", sorted(ALLOWED["vertex"] - DIMENSIONS))
@pytest.mark.parametrize("model", [PREDICT, EMBED_CONTENT])
def test_options(model: str, name: str, provider: str) -> None:
    """Each option, under either of the provider's names, goes where the method has its field, and
    wins over ours."""
    options = orjson.dumps({provider: {name: "X"}})
    body = _body("a", on=_deployment(model), input_type="query", options=options)
    camel = {"task_type": "taskType", "auto_truncate": "autoTruncate"}.get(name, name)
    if model == EMBED_CONTENT:
        assert body["embedContentConfig"] == {"autoTruncate": False, camel: "X"}
    elif camel == "autoTruncate":
        assert body["parameters"] == {"autoTruncate": "X"}
    else:
        expected = {"content": "a", "task_type": "RETRIEVAL_QUERY"}
        expected["task_type" if camel == "taskType" else camel] = "X"
        assert body == {"instances": [expected], "parameters": {"autoTruncate": False}}


def _predictions(*found: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": [{"embeddings": one} for one in found]}


def test_tokens_and_cuts_of_each_text() -> None:
    """predict tells the tokens of each text and whether it was cut: both reach the right text."""
    body = _predictions(
        {"values": [1.0], "statistics": {"token_count": 4.0, "truncated": False}},
        {"values": [2.0], "statistics": {"token_count": 2048, "truncated": True}},
        {"values": [3.0], "statistics": {"token_count": 1}},
    )
    found = VERTEX.parse(make_request("a", "b", "c"), _deployment(), json_response(body))
    assert [numbers(one.vector) for one in found] == [[1.0], [2.0], [3.0]]
    assert [one.tokens for one in found] == [4, 2048, 1]
    assert [one.is_truncated for one in found] == [False, True, False]
    assert not any(one.is_estimated for one in found)


@pytest.mark.parametrize("statistics", [{}, {"statistics": {}}])
def test_tokens_not_reported(statistics: dict[str, Any]) -> None:
    """Where one text's tokens are not told, all are estimated rather than some taken for none."""
    body = _predictions(
        {"values": [1.0], "statistics": {"token_count": 40}}, {"values": [2.0], **statistics}
    )
    found = VERTEX.parse(make_request("a", "b"), _deployment(), json_response(body))
    assert [(one.tokens, one.is_estimated) for one in found] == [(1, True), (1, True)]


@pytest.mark.parametrize(
    ("extra", "tokens", "is_estimated", "is_truncated"),
    [
        ({"usageMetadata": {"promptTokenCount": 11}}, 11, False, False),
        ({"usageMetadata": {"promptTokenCount": 8192}, "truncated": True}, 8192, False, True),
        ({}, 2, True, False),
    ],
)
def test_one_content(
    extra: dict[str, Any], tokens: int, is_estimated: bool, is_truncated: bool
) -> None:
    """embedContent tells the tokens of its one text, and whether it was cut."""
    body = {"embedding": {"values": [1.0]}, **extra}
    (one,) = VERTEX.parse(make_request(), _deployment(EMBED_CONTENT), json_response(body))
    assert (one.tokens, one.is_estimated, one.is_truncated) == (tokens, is_estimated, is_truncated)


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (PREDICT, {"error": {"code": 500, "message": "inside a 200"}}),
        (PREDICT, {"embedding": {"values": [1.0]}}),
        (PREDICT, {"predictions": [{"embeddings": {"values": [None]}}]}),
        (PREDICT, {"predictions": [{}]}),
        (EMBED_CONTENT, {"predictions": []}),
        (EMBED_CONTENT, {"embedding": {}}),
        (EMBED_CONTENT, b""),
    ],
)
def test_unsound_answers(model: str, body: Any) -> None:
    """An answer of another shape than the method's is refused, an error inside a 200 included."""
    with pytest.raises(ValueError, match=r"."):
        VERTEX.parse(make_request(), _deployment(model), json_response(body))


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (
            400,
            "Unable to submit request because the input token count is 20005 but the model "
            "supports up to 20000. Reduce the input token count and try again.",
            errors.UpstreamInputTooLong,
        ),
        (401, "Request had invalid authentication credentials.", errors.UpstreamUnauthorized),
        (403, "Permission 'aiplatform.endpoints.predict' denied", errors.UpstreamUnauthorized),
        (404, "Publisher Model was not found", errors.UpstreamModelNotFound),
        (429, "Quota exceeded for base_model", errors.UpstreamRateLimited),
    ],
)
def test_errors(status: int, message: str, kind: type[errors.UpstreamError]) -> None:
    """Each refusal becomes the error it means; our token's are the operator's, not the caller's."""
    body = {"error": {"code": status, "message": message, "status": "X"}}
    assert type(VERTEX.explain(_deployment(), json_response(body, status))) is kind
