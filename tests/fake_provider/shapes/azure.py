"""Azure OpenAI: the deployment stands in the path, or in the body on the v1 path.

Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from tests.fake_provider.checks import check_bearer, check_header, read_object
from tests.fake_provider.exchange import KEY, Answer, Asked, Refused, Request, refuse
from tests.fake_provider.json_text import json_answer
from tests.fake_provider.shapes.openai import FIELDS, OpenAIShape, wait

_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/embeddings")


class AzureShape(OpenAIShape):
    """OpenAI's body, other doors."""

    def read(self, request: Request) -> Asked:
        """What is asked for, by either path."""
        if "authorization" in request.headers:
            check_bearer(request)
        else:
            check_header(request, "api-key", KEY)
        body = read_object(request, known=FIELDS, required=("input",))
        if request.path == "/openai/v1/embeddings" and "model" in body:
            return self.read_body(body, body["model"])
        found = _DEPLOYMENT.fullmatch(request.path)
        if found is None or not dict(request.query).get("api-version"):
            refuse(404, "Resource not found", "404")
        return self.read_body(body, unquote(found[1]))

    def refuse(self, refused: Refused) -> Answer:
        """Azure's envelope: the code is a text, type and param are missing."""
        code = "DeploymentNotFound" if refused.status == 404 else str(refused.status)
        error = {"code": code, "message": refused.message}
        return json_answer({"error": error}, refused.status, wait(refused))


AZURE = AzureShape("azure", takes_token_ids=True)
