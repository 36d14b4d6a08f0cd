"""Texts that must not be seen, and where they are found all the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote

from tests.fake_provider.exchange import KEY

PART = 12
"""As many characters of a canary are too many."""

ISSUER, AUDIENCE = "http://127.0.0.1:9", "the gateway"


SECRETS = {
    "the provider's key": KEY,
    "another provider's key": "7Qm2xWz9/Lr4+Tn8Vb3",
    "the key of one who cannot be reached": "Zt5bVc1Xd3Gh6Jk0Lq",
    "a secret access key": "Pw8eRt5+yUi2oAs6/dFg",
    "the caller's own key": "Hy6Nj3Mk9Lp2Bv5Cx8",
    "a wrong gateway key": "ew_dev_0000_Sd4Fg7Hj1Kl8Zx2C",
    "the password of Redis": "Qa1Ws2Ed3Rf4Cv6Bn",
    "the password of the database": "Tg5Yh6Uj7Ik8Ol9Pm",
    "the signature of a token": "Vb5Nm6Qw7Er8Ty9Ui0Op1As2",
    "the signature of nobody's token": "Lk3Jh4Gf5Ds6Aq7Zx8Cv9Bn0",
}
TEXTS = {
    "the text": 'Kingfisher "Halcyon" breeds\n\tat 52.0799° north, says \\warden\\ of Zoutelande',
    "another text": "Wagtail winters beside the Nieuwe Maas and answers to the name Motacilla",
}
NAMES = {"the user": "grebe-8c41f0d2b7a6", "the tag": "heron-5e97b3a60c1d"}
"""What the ledger keeps on purpose, and nobody else."""


def token(issuer: str, signature: str) -> str:
    """A token of somebody else's, as far as it can be had without his key."""
    parts = (
        {"alg": "RS256", "kid": "the-newest"},
        {"iss": issuer, "aud": AUDIENCE, "sub": "plover-2b71", "exp": 4_000_000_000},
    )
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return ".".join((*(part.decode() for part in encoded), signature))


def found(canaries: dict[str, str], where: bytes) -> list[str]:
    """The canaries of which a part of twelve characters stands there, in whatever disguise."""
    return [
        name
        for name, canary in canaries.items()
        if any(part in where for form in _forms(canary) for part in _parts(form, name))
    ]


def _parts(form: bytes, name: str) -> Iterator[bytes]:
    """All parts of a secret; of a text, whose words are a language's, both ends."""
    every = range(len(form) - PART + 1)
    yield from (
        form[at : at + PART] for at in (every if name not in TEXTS else (every[0], every[-1]))
    )


def _forms(canary: str) -> Iterator[bytes]:
    data = canary.encode()
    yield from (data, data.hex().encode(), data.hex().upper().encode())
    yield quote(canary, safe="").encode()
    for escaped in (json.dumps(canary), json.dumps(canary, ensure_ascii=False), repr(canary)):
        yield escaped[1:-1].encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).rstrip(b"=")
        own = encoded[(before * 8 + 5) // 6 : len(encoded) - 1]
        yield from (own, own.translate(bytes.maketrans(b"+/", b"-_")))


def echo(key: str = KEY, text: str = TEXTS["the text"]) -> str:
    """What a provider may say that repeats, cuts and disguises what it was sent."""
    basic = base64.b64encode(f"me:{key}".encode()).decode()
    keys = (key, key[:14], key[-13:], basic, key.encode().hex(), quote(key, safe=""))
    texts = (text, json.dumps(text), repr(text), text[:20], text[-20:], NAMES["the user"])
    return f"told you so: {' '.join(keys)}\r\n\x1b[31m {' '.join(texts)}"
