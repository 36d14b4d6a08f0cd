"""Access tokens of a Google service account, with google-auth itself and a scripted transport."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from embedway.errors import UpstreamUnauthorized
from embedway.provider import HttpRequest, HttpResponse, TransportError
from embedway.service_account import ServiceAccount
from tests.fakes import FakeClock

TOKEN_URI = "https://oauth2.googleapis.com/token"
KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture
def account_file(tmp_path: Path) -> Path:
    """A service account's file, with a key of its own."""
    pem = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "account.json"
    fields = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "robot@p.iam.gserviceaccount.com",
        "token_uri": TOKEN_URI,
    }
    path.write_text(json.dumps(fields))
    return path


class Google:
    """The token endpoint: remembers what it was asked."""

    def __init__(self, *answers: HttpResponse | Exception) -> None:
        self.asked: list[HttpRequest] = []
        self._answers = list(answers)

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """One answer, in the order given; the last one stays."""
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def token(text: str, expires_in: int = 3600) -> HttpResponse:
    """What Google answers."""
    body = {"access_token": text, "expires_in": expires_in, "token_type": "Bearer"}
    return HttpResponse(200, {"content-type": "application/json"}, orjson.dumps(body))


def claims(request: HttpRequest) -> dict[str, object]:
    """The assertion's claims, its signature checked with the account's public key."""
    assertion = parse_qs(request.body.decode())["assertion"][0]
    head, body, signature = assertion.split(".")
    KEY.public_key().verify(
        base64.urlsafe_b64decode(signature + "=="),
        f"{head}.{body}".encode(),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(body + "=="))
    return decoded


async def test_a_token_through_the_transport(account_file: Path) -> None:
    """The assertion is signed with the account's key, asks for the cloud's scope, and goes through
    the transport to Google's token endpoint; the token comes back."""
    google = Google(token("ya29.first"))
    secret = await ServiceAccount(account_file, google, FakeClock())()
    (asked,) = google.asked
    assert (asked.method, asked.url) == ("POST", TOKEN_URI)
    assert claims(asked)["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims(asked)["iss"] == "robot@p.iam.gserviceaccount.com"
    assert secret.reveal() == "ya29.first"


async def test_kept_until_it_nears_its_end(account_file: Path) -> None:
    """A token is fetched once for all who wait, kept, and renewed before it ends."""
    google = Google(token("one"), token("two"))
    # google-auth reads the expiry off the machine's clock, so this one starts there too.
    clock = FakeClock(now=0.0)
    account = ServiceAccount(account_file, google, clock)
    got = await asyncio.gather(*(account() for _ in range(5)))
    assert {secret.reveal() for secret in got} == {"one"}
    assert len(google.asked) == 1
    clock.advance(10**11)  # far beyond any expiry
    assert (await account()).reveal() == "two"
    assert len(google.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        HttpResponse(401, {}, b'{"error": "invalid_grant"}'),
        TransportError("it cannot be reached", was_sent=False),
    ],
)
async def test_no_token(account_file: Path, answer: HttpResponse | Exception) -> None:
    """Without a token the operator's credential is to blame, never the caller's."""
    with pytest.raises(UpstreamUnauthorized, match="Google gave no token") as caught:
        await ServiceAccount(account_file, Google(answer), FakeClock())()
    assert "PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "not JSON", None])
async def test_not_a_service_account(tmp_path: Path, text: str | None) -> None:
    """A file that is missing or something else is said to be so, and Google is not asked."""
    path = tmp_path / "account.json"
    if text is not None:
        path.write_text(text)
    google = Google(token("never"))
    with pytest.raises(UpstreamUnauthorized, match=r"credentials_file|gave no token"):
        await ServiceAccount(path, google, FakeClock())()
    assert google.asked == []


async def test_without_google_auth(account_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the message says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "google.oauth2", None)
    with pytest.raises(UpstreamUnauthorized, match=r"install embedway\[vertex\]"):
        await ServiceAccount(account_file, Google(token("never")), FakeClock())()
