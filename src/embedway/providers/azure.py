"""Azure OpenAI: OpenAI's dialect at an address of the account's own.

Two paths: with an `api-version`, {base_url}/openai/deployments/{deployment}/embeddings; without
one, {base_url}/openai/v1/embeddings, where `model` names the deployment. The credential is a key
in the header `api-key`, or a token of Entra ID as a bearer.
Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle, and what
openai-python 3.52.0 sends and reads as AzureOpenAI.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode

from embedway.errors import UpstreamError
from embedway.provider import Deployment, HttpRequest, HttpResponse, Provider
from embedway.providers.openai import Dialect, build_body, error_message, parse
from embedway.replies import refusal, retry_after
from embedway.requests import bearer, post
from embedway.types import EmbedRequest

_DIALECT = Dialect(name="azure")
# Entra's tokens are JSON Web Tokens; a key has no dots.
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_WAIT = re.compile(r"retry after (\d{1,5}) seconds", re.IGNORECASE)


def build(request: EmbedRequest, deployment: Deployment) -> HttpRequest:
    """The request; its body is OpenAI's."""
    return post(
        _url(deployment), build_body(request, deployment, _DIALECT), _credential(deployment)
    )


def _url(deployment: Deployment) -> str:
    base_url, version = deployment.base_url, deployment.api_version
    query = f"?{urlencode({'api-version': version})}" if version else ""
    if base_url.endswith("/openai/v1"):
        return f"{base_url}/embeddings{query}"
    if not version:
        return f"{base_url}/openai/v1/embeddings"
    name = quote(deployment.upstream_model, safe="")
    return f"{base_url}/openai/deployments/{name}/embeddings{query}"


def _credential(deployment: Deployment) -> dict[str, str]:
    if deployment.credential is None or _TOKEN.fullmatch(deployment.credential.reveal()):
        return bearer(deployment)
    return {"api-key": deployment.credential.reveal()}


def explain(deployment: Deployment, response: HttpResponse) -> UpstreamError:
    """The error that an answer other than 2xx stands for.

    Where no header says how long to wait, the message may: "Please retry after 2 seconds."
    """
    told = error_message(response.body)
    wait = retry_after(response.headers)
    if wait is None and told is not None and (said := _WAIT.search(told)):
        wait = float(said[1])
    return refusal(deployment, response, told, retry_after_s=wait)


AZURE = Provider(
    name="azure",
    build=build,
    parse=parse,
    explain=explain,
    base_url=None,
    source="https://learn.microsoft.com/azure/ai-foundry/openai/reference (2026-11-21)",
)
