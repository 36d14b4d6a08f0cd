"""Checks AWS Signature Version 4 as the service does: makes the signature anew from what came.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import quote

from tests.fake_provider.exchange import KEY, Request, refuse

ACCESS_KEY_ID = "AKIAFAKEFAKEFAKEFAKE"
SECRET_ACCESS_KEY = KEY
REGION = "us-east-1"
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/((\d{8})/([^/]+)/bedrock/aws4_request), "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


def check_signature(request: Request) -> None:
    """Raise Refused unless the request is signed with our access key."""
    found = _HEADER.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        refuse(403, "Missing Authentication Token", "MissingAuthenticationTokenException")
    key_id, scope, day, region, names, signature = found.groups()
    if key_id != ACCESS_KEY_ID or region != REGION:
        refuse(403, "The security token is invalid.", "UnrecognizedClientException")
    if "host" not in names.split(";"):
        refuse(403, "'Host' must be a signed header.", "InvalidSignatureException")
    stamp = request.headers.get("x-amz-date", "")
    canonical = hashlib.sha256(_canonical(request, names).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{canonical}"
    key = f"AWS4{SECRET_ACCESS_KEY}".encode()
    for part in (day, region, "bedrock", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(signature, hmac.digest(key, text.encode(), "sha256").hex()):
        refuse(403, "The request signature we calculated differs.", "InvalidSignatureException")


def _canonical(request: Request, names: str) -> str:
    path, _, _ = request.target.partition("?")
    query = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in request.query)
    headers = [f"{n}:{' '.join(request.headers.get(n, '').split())}\n" for n in names.split(";")]
    return "\n".join(
        (
            request.method,
            quote(path, safe="/-_.~"),  # what is encoded already is encoded once more
            "&".join(f"{name}={value}" for name, value in query),
            "".join(headers),
            names,
            hashlib.sha256(request.body).hexdigest(),
        )
    )
