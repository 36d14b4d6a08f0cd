"""AWS's own chain of credentials, with botocore itself."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

from embedway.aws_credentials import AwsChain
from embedway.catalog_file import load_catalog
from embedway.errors import UpstreamUnauthorized
from embedway.gateway import build_gateway
from embedway.provider import HttpRequest, HttpResponse
from embedway.settings import AccountSettings, Settings
from embedway.types import Call, EmbedParams, EmbedRequest, Grant
from tests.fakes import FakeClock, MemoryBook


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any AWS credential, and without a metadata service."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


async def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three variables that every AWS tool reads are found."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-1")
    key = await AwsChain("bedrock")()
    assert (key.id, key.secret.reveal()) == ("AKIA-1", "secret-1")
    assert key.session_token is not None
    assert key.session_token.reveal() == "token-1"


async def test_from_the_shared_file(machine: Path) -> None:
    """The shared credentials file is found; a key without token has none."""
    (machine / "credentials").write_text(
        "[default]\naws_access_key_id = AKIA-2\naws_secret_access_key = secret-2\n"
    )
    key = await AwsChain("bedrock")()
    assert (key.id, key.secret.reveal(), key.session_token) == ("AKIA-2", "secret-2", None)


async def test_an_empty_chain() -> None:
    """Without any credential the operator is told what to set, and the caller is not blamed."""
    with pytest.raises(UpstreamUnauthorized, match=r"my-account has no credential.*Set api_key"):
        await AwsChain("my-account")()


async def test_a_broken_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that does not exist is the operator's mistake, told as such, and no bug."""
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with pytest.raises(UpstreamUnauthorized, match=r"AWS's chain failed \(ProfileNotFound\)"):
        await AwsChain("bedrock")()


async def test_without_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the message says what to install."""
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UpstreamUnauthorized, match=r"install embedway\[bedrock\]"):
        await AwsChain("bedrock")()


async def test_an_account_without_credential_signs_with_the_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Bedrock account that names no credential signs its requests with what the chain finds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    asked: list[HttpRequest] = []

    async def send(request: HttpRequest, /, *, timeout_s: float, max_bytes: int) -> HttpResponse:
        asked.append(request)
        body = {"embedding": [1.0] + [0.0] * 1023, "inputTextTokenCount": 3}
        return HttpResponse(200, {}, orjson.dumps(body))

    clock = FakeClock()
    gateway = build_gateway(
        settings=Settings(
            home="unused", providers={"bedrock": AccountSettings(region="us-east-1")}
        ),
        catalog=load_catalog(),
        local=None,
        send=send,
        book=MemoryBook(),
        count=lambda line: None,
        clock=clock,
    )
    call = Call(id="1", grant=Grant.open(), deadline=clock.monotonic() + 60)
    params = EmbedParams(model="amazon/titan-embed-text-v2")
    await gateway(EmbedRequest(params=params, inputs=("a",), call=call))
    assert "Credential=AKIA-1/" in asked[0].headers["authorization"]
