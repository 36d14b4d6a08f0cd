"""What the adapters of several providers share in building a request: its head, and the words
that stand before a text.

A provider's file says which fields its body has; `replies.py` is the other half.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from embedway.errors import InvalidRequest
from embedway.provider import Deployment, HttpRequest
from embedway.types import EmbedRequest, Input


def post(url: str, body: Mapping[str, object], credential: Mapping[str, str]) -> HttpRequest:
    """A POST of JSON. credential: the header that carries it, if any."""
    headers = {"content-type": "application/json", "accept": "application/json", **credential}
    return HttpRequest("POST", url, headers, orjson.dumps(body))


def bearer(deployment: Deployment) -> dict[str, str]:
    """The credential in the header that most providers read; nothing where there is none."""
    if deployment.credential is None:
        return {}
    return {"authorization": f"Bearer {deployment.credential.reveal()}"}


def prefixed(request: EmbedRequest, deployment: Deployment) -> tuple[Input, ...]:
    """The inputs, behind the words that mark a query or a document where the model reads such.

    For servers that have no field for the input type. Raises InvalidRequest if the deployment
    names one: without it the vector would be another.
    """
    if (words := deployment.native_input_type(request)) is None:
        return request.inputs
    if deployment.input_type is not None and deployment.input_type.param is not None:
        raise InvalidRequest(
            f"{deployment.name} has no field {deployment.input_type.param} to say the input type "
            f"of {deployment.model}.",
            param="input_type",
        )
    return tuple(f"{words}{value}" if isinstance(value, str) else value for value in request.inputs)
