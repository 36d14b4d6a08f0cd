"""Tokens that come in, and what they grant."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from embedway.errors import ExpiredKey, InvalidKey, Overloaded
from embedway.oidc import TokenVerifier
from embedway.provider import TransportError
from embedway.settings import Settings
from embedway.signed_token import is_signed_token
from embedway.transport import Transport
from embedway.types import Grant, Rates
from embedway.wrong_settings import SettingsError
from tests.fakes import FakeClock
from tests.oidc_issuer import (
    AUDIENCE,
    GONE,
    ISSUER,
    KEYS,
    OTHER_RSA,
    RSA,
    SUBJECT,
    FakeIssuer,
    discovery,
    entry,
    key_set,
    make_claims,
    make_header,
    make_token,
    public_jwk,
    settings,
)

NOW = 1_800_000_000


def verifier(*entries: Any, issuer: FakeIssuer | None = None) -> TokenVerifier:
    """One that trusts the issuer of the tests, with these entries."""
    return TokenVerifier(settings(*entries), issuer or FakeIssuer(), FakeClock())


async def admits(check: TokenVerifier, token: bytes) -> bool:
    """Whether the token comes in."""
    try:
        await check.grant(token)
    except InvalidKey:
        return False
    return True


@pytest.mark.parametrize("algorithm", KEYS)
async def test_each_algorithm(algorithm: str) -> None:
    """A token comes in under each of the three algorithms, signed with a key of that type."""
    token = make_token(header=make_header(algorithm), key=KEYS[algorithm])
    assert await verifier().grant(token) == Grant(
        key_id="oidc:430cb5477d81e83bd50d4524", name=SUBJECT, expires_ms=(NOW + 600) * 1000
    )


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {"aud": [AUDIENCE]}),
        ({"typ": GONE}, {}),
        ({"typ": "jwt"}, {}),
        ({"typ": "at+jwt"}, {}),
        ({"typ": "application/at+JWT"}, {}),
        ({"x5t": "a-thumbprint"}, {}),
        ({}, {"nbf": GONE, "iat": GONE}),
        ({}, {"nbf": NOW + 60, "iat": NOW + 60}),
        ({}, {"nbf": 0, "iat": 0.5}),
        ({}, {"exp": NOW + 1}),
        ({}, {"exp": NOW + 0.5}),
        ({}, {"exp": NOW + 10**9}),
        ({}, {"act": {"sub": "somebody"}, "roles": ["admin"], "is_admin": True}),
    ],
)
async def test_what_sound_tokens_may_look_like(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    """Issuers differ in what they leave out or add; none of it makes an admin."""
    token = make_token(make_claims(**claims), make_header(**header))
    grant = await verifier().grant(token)
    assert (grant.name, grant.is_admin) == (SUBJECT, False)


async def test_a_token_of_just_8_kib() -> None:
    """A token of 8,192 bytes is read; none is longer, and still sound."""
    room = 8192 - len(make_token(make_claims(pad="")))
    fitting = next(
        token
        for length in range(room * 3 // 4 + 3, 0, -1)
        if len(token := make_token(make_claims(pad="x" * length))) <= 8192
    )
    assert len(fitting) > 8188
    assert (await verifier().grant(fitting)).name == SUBJECT


async def test_without_key_id() -> None:
    """A token that names no key is checked with the only one there is for its algorithm."""
    issuer = FakeIssuer()
    token = make_token(header=make_header(kid=GONE))
    assert await admits(verifier(issuer=issuer), token)
    issuer.keys = key_set(public_jwk(RSA, None))
    assert await admits(verifier(issuer=issuer), token)
    assert not await admits(verifier(issuer=issuer), make_token())
    issuer.keys = key_set(public_jwk(RSA, "a"), public_jwk(OTHER_RSA, "b"))
    assert not await admits(verifier(issuer=issuer), token)


async def test_what_an_entry_grants() -> None:
    """The grant has all that the entry says, and the budgets come beside it in picodollars."""
    said = entry(
        project="search",
        models=("openai/text-embedding-3-small",),
        providers=("openai",),
        requests_per_minute=60,
        tokens_per_minute=10_000,
        concurrency=4,
        allows_fallbacks=False,
        space="openai/text-embedding-3-small@1536",
        budget_day="0.25usd",
        budget_month="5usd",
        budget_total="20",
    )
    admission = await verifier(said).admit(make_token())
    assert admission.grant == Grant(
        key_id="oidc:430cb5477d81e83bd50d4524",
        name=SUBJECT,
        models=("openai/text-embedding-3-small",),
        project="search",
        allows_fallbacks=False,
        space="openai/text-embedding-3-small@1536",
        providers=("openai",),
        rates=Rates(requests_per_minute=60, tokens_per_minute=10_000, concurrency=4),
        expires_ms=(NOW + 600) * 1000,
    )
    assert admission.budgets == {"day": 25 * 10**10, "month": 5 * 10**12, "total": 20 * 10**12}


async def test_the_first_entry_that_is_met_wins() -> None:
    """Of several entries for one issuer and audience the first counts whose claims are there."""
    check = verifier(
        entry(claims={"environment": "production"}, project="live"),
        entry(claims={"owner": "acme"}, project="rest"),
        entry(claims={"owner": "acme"}, project="never"),
        entry(audience="https://other.example", project="other"),
    )

    async def project(**claims: Any) -> str:
        return (await check.grant(make_token(make_claims(**claims)))).project

    assert await project(environment="production") == "live"
    assert await project(environment="preview") == "rest"
    assert await project(aud="https://other.example") == "other"


@pytest.mark.parametrize(
    ("asked", "claims", "is_met"),
    [
        ({"owner": "acme", "project_id": "prj_1"}, {}, True),
        ({"owner": "acme", "project_id": "prj_2"}, {}, False),
        ({"sub": SUBJECT}, {}, True),
        ({"iss": ISSUER}, {}, True),
        ({"run": 7}, {"run": 7}, True),
        ({"run": 7}, {"run": "7"}, False),
        ({"run": "7"}, {"run": 7}, False),
        ({"run": 1}, {"run": True}, False),
        ({"run": True}, {"run": 1}, False),
        ({"run": 1}, {"run": 1.0}, False),
        ({"protected": True}, {"protected": True}, True),
        ({"protected": False}, {}, False),
        ({"owner": ""}, {"owner": GONE}, False),
        (
            {"kubernetes.io": {"namespace": "a"}},
            {"kubernetes.io": {"namespace": "a", "x": 1}},
            True,
        ),
        ({"kubernetes.io": {"namespace": "a"}}, {"kubernetes.io": {"namespace": "b"}}, False),
        ({"kubernetes.io": {"namespace": "a"}}, {"kubernetes.io": "a"}, False),
        ({"kubernetes.io": {"namespace": "a"}}, {}, False),
        ({"a": {"b": {"c": "d"}}}, {"a": {"b": {"c": "d"}}}, True),
        ({"a": {"b": {"c": "d"}}}, {"a": {"b": {"c": "e"}}}, False),
        ({"groups": "a"}, {"groups": ["a", "b"]}, False),
    ],
)
async def test_conditions(asked: dict[str, Any], claims: dict[str, Any], is_met: bool) -> None:
    """All claims that are asked for must be there, with that value and of that type."""
    token = make_token(make_claims(**claims))
    assert await admits(verifier(entry(claims=asked)), token) is is_met


@pytest.mark.parametrize(
    ("value", "project"),
    [
        ("prj_1", "prj_1"),
        ("A.b-c_9", "A.b-c_9"),
        ("x" * 64, "x" * 64),
        ("x" * 65, None),
        ("octo/repo", None),
        ("key:k1", None),
        ("*", None),
        ("", None),
        (7, None),
        (["prj_1"], None),
        (GONE, None),
    ],
)
async def test_a_project_from_a_claim(value: object, project: str | None) -> None:
    """A claim may name the project, if it is a name that a project can have."""
    check = verifier(entry(project="claim:project_id"))
    token = make_token(make_claims(project_id=value))
    if project is not None:
        assert (await check.grant(token)).project == project
        return
    with pytest.raises(InvalidKey, match="'project_id' must name a project"):
        await check.grant(token)


async def test_key_ids() -> None:
    """The id in the books is that of issuer and subject: the same for each of its tokens and in
    each process, and never the same for two."""
    check = verifier(entry(), entry(issuer=f"{ISSUER}/a"), entry(issuer=f"{ISSUER}/"))
    ids = [
        (await check.grant(make_token(make_claims(**claims)))).key_id
        for claims in (
            {},
            {"jti": "another"},
            {"sub": "x"},
            {"sub": "/x"},
            {"iss": f"{ISSUER}/a", "sub": "x"},
            {"iss": f"{ISSUER}/", "sub": "x"},
        )
    ]
    assert ids[0] == ids[1] == "oidc:430cb5477d81e83bd50d4524"
    assert len(set(ids)) == 5


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 63 + "…"),
        ("a\nlevel=info b\x1b[31m", "a�level=info b�[31m"),
        ("système:ünï", "système:ünï"),
        ("a\u202eb", "a�b"),
    ],
)
async def test_names(subject: str, name: str) -> None:
    """The name in logs and books is one line of 64 characters at most, with nothing that moves a
    terminal's cursor."""
    grant = await verifier().grant(make_token(make_claims(sub=subject)))
    assert grant.name == name


async def test_a_known_token_ends_in_time() -> None:
    """A token that was let in is refused from its end on, and so is one with another signature."""
    clock = FakeClock()
    check = TokenVerifier(settings(), FakeIssuer(), clock)
    token = make_token(make_claims(exp=NOW + 300))  # before the keys are read anew
    for _ in range(3):
        await check.grant(token)
    with pytest.raises(InvalidKey):
        await check.grant(token[:-6] + b"AAAAAA")
    clock.advance(299)
    await check.grant(token)
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(ExpiredKey):
            await check.grant(token)


async def test_a_known_token_does_not_outlive_its_key() -> None:
    """Once an issuer withdraws a key, tokens that it signed are refused after ten minutes at most,
    though they were let in before."""
    clock, issuer = FakeClock(), FakeIssuer()
    check = TokenVerifier(settings(), issuer, clock)
    token = make_token(make_claims(exp=NOW + 40_000))
    await check.grant(token)
    issuer.keys = key_set(public_jwk(OTHER_RSA, "k-new"))
    clock.advance(599)
    await check.grant(token)
    clock.advance(1)
    with pytest.raises(InvalidKey, match="does not publish"):
        await check.grant(token)


async def test_a_key_may_not_change_under_its_name() -> None:
    """A token that was let in is checked anew when another key has taken its key's name."""
    clock, issuer = FakeClock(), FakeIssuer()
    check = TokenVerifier(settings(), issuer, clock)
    token = make_token(make_claims(exp=NOW + 40_000))
    await check.grant(token)
    issuer.keys = key_set(public_jwk(OTHER_RSA, "k-RS256"))
    clock.advance(600)
    with pytest.raises(InvalidKey, match="signature"):
        await check.grant(token)


async def test_tokens_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More tokens than are kept come in all the same, each with its own grant."""
    monkeypatch.setattr("embedway.oidc._MAX_KNOWN", 2)
    check = verifier()
    tokens = [make_token(make_claims(sub=f"s{n}")) for n in range(4)]
    for _ in range(2):
        names = [(await check.grant(token)).name for token in tokens]
        assert names == ["s0", "s1", "s2", "s3"]
    assert len(check._known) == 2


async def test_issuers_apart() -> None:
    """A key of one issuer signs nothing for another, though both are trusted, and each is asked at
    its own place."""
    issuer = FakeIssuer()
    check = verifier(
        entry(),
        entry(issuer="https://second.example", jwks_url="https://second.example/k"),
        issuer=issuer,
    )
    await check.grant(make_token())
    issuer.keys = key_set(public_jwk(OTHER_RSA, "k-RS256"))
    claims = make_claims(iss="https://second.example")
    with pytest.raises(InvalidKey, match="signature"):
        await check.grant(make_token(claims))
    await check.grant(make_token(claims, key=OTHER_RSA))
    assert [request.url for request in issuer.asked] == [
        f"{ISSUER}/keys",
        "https://second.example/k",
    ]


async def test_an_issuer_that_is_down_is_no_refusal() -> None:
    """While the keys cannot be had, callers hear 503 and when to come again, never 401."""
    issuer = FakeIssuer()
    issuer.keys = TransportError("it cannot be reached", was_sent=False)
    with pytest.raises(Overloaded) as caught:
        await verifier(issuer=issuer).grant(make_token())
    assert (caught.value.status, caught.value.retry_after_s) == (503, 30.0)


async def test_nothing_of_a_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a token that comes in nor one that does not leaves a trace in the logs."""
    caplog.set_level(logging.DEBUG)
    check = verifier()
    tokens = [make_token(), make_token(key=OTHER_RSA), make_token(header=make_header(kid="nobody"))]
    for token in tokens:
        await admits(check, token)
    for part in {part.decode() for token in tokens for part in token.split(b".")} | {SUBJECT}:
        assert part not in caplog.text
        assert part not in repr(check)


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where entries are set and the extra is not installed, the message says what to install; where
    none are set, nothing is needed."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r"pip install 'embedway\[oidc\]'"):
        verifier()
    TokenVerifier(Settings(home="unused"), FakeIssuer(), FakeClock())


@pytest.mark.parametrize(
    ("credential", "is_token"),
    [
        (make_token(), True),
        (b"a.b", True),
        (b"gw_prod_0123456789ab_" + b"0" * 64, False),
        (b"sk-0123", False),
        (b"", False),
    ],
)
def test_tokens_and_keys(credential: bytes, is_token: bool) -> None:
    """What has a dot is read as a token; no key of ours has one."""
    assert is_signed_token(credential) is is_token


async def test_over_sockets() -> None:
    """With a real issuer on loopback: discovery, keys, token, grant; each document is fetched once,
    and an issuer that redirects or sends too much has no keys."""
    answers: dict[str, bytes] = {}
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[1].decode())
        writer.write(answers.get(asked[-1], b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))
        writer.close()

    def ok(body: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Transport() as send:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        said = entry(issuer=url, jwks_url=None, private=True)
        answers["/.well-known/openid-configuration"] = ok(
            discovery(issuer=url, jwks_uri=f"{url}/certs")
        )
        answers["/certs"] = ok(key_set())
        token = make_token(make_claims(iss=url))
        check = TokenVerifier(settings(said), send, FakeClock())
        grants = await asyncio.gather(*(check.grant(token) for _ in range(5)))
        assert {grant.name for grant in grants} == {SUBJECT}
        assert asked == ["/.well-known/openid-configuration", "/certs"]

        answers["/elsewhere"] = answers["/certs"]
        for bad in (
            b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
            ok(key_set() + b" " * 2**18),
        ):
            answers["/certs"] = bad
            with pytest.raises(Overloaded):
                await TokenVerifier(settings(said), send, FakeClock()).grant(token)
        assert "/elsewhere" not in asked
