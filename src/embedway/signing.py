"""AWS Signature Version 4: the header that shows AWS who sends a request.

Pure: a function of the request, the access key and the time.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
(2026-11-21); the tests hold it against botocore's signer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from embedway.provider import HttpRequest
from embedway.secret import Secret
from embedway.types import replace

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a proxy on the way may add or change; those of a former signature are made anew.
_UNSIGNED = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
_OURS = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})


def sign(
    request: HttpRequest,
    *,
    access_key_id: str,
    secret_access_key: Secret,
    session_token: Secret | None,
    region: str,
    service: str,
    now: float,
) -> HttpRequest:
    """The request with the headers authorization, x-amz-date and, given a session token,
    x-amz-security-token. All else stays as it is, and must stay so until it is sent.

    now: seconds since 1970; AWS refuses a signature that is more than five minutes off.
    """
    timestamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {n: v for n, v in request.headers.items() if n.lower() not in _OURS}
    headers["x-amz-date"] = timestamp
    if session_token is not None:
        headers["x-amz-security-token"] = session_token.reveal()
    signed = _signed_headers(headers, request.url)
    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    canonical = _canonical_request(request, signed)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _signing_key(secret_access_key, scope)
    signature = _hmac(key, f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={access_key_id}/{scope}, "
        f"SignedHeaders={';'.join(signed)}, Signature={signature}"
    )
    return replace(request, headers=headers)


def _canonical_request(request: HttpRequest, signed: Mapping[str, str]) -> str:
    url = urlsplit(request.url)
    return "\n".join(
        (
            request.method.upper(),
            _canonical_path(url.path),
            _canonical_query(url.query),
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            ";".join(signed),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def _canonical_path(path: str) -> str:
    """The path without dots and doubled slashes, percent-encoded once more: all services but S3
    sign what is sent as if it were plain."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    tail = "/" if segments and path.endswith("/") else ""
    return quote(f"/{'/'.join(segments)}{tail}")


def _canonical_query(query: str) -> str:
    """The pairs as they are sent, sorted."""
    if not query:
        return ""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in pairs)


def _signed_headers(headers: Mapping[str, str], url: str) -> dict[str, str]:
    """The headers that are signed, by name: lower-case and sorted, with single spaces."""
    kept = {n.lower(): " ".join(v.split()) for n, v in headers.items()}
    kept.setdefault("host", _host(url))
    return {name: kept[name] for name in sorted(kept) if name not in _UNSIGNED}


def _host(url: str) -> str:
    """What an HTTP client puts into the header `host`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
    return host if is_default else f"{host}:{parts.port}"


def _signing_key(secret: Secret, scope: str) -> bytes:
    key = f"AWS4{secret.reveal()}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
