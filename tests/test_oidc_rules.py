"""What `[[oidc]]` may say, and how a mistake in it is told."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from embedway.oidc_rules import read_rules
from embedway.settings import OidcSettings
from embedway.wrong_settings import SettingsError
from tests.oidc_issuer import ISSUER, entry

PAGE = Path(__file__).parent.parent / "docs" / "oidc.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"issuer": ""}, "issuer must be like https://host/path"),
        ({"issuer": "issuer.example"}, "issuer must be like https://host/path"),
        ({"issuer": "ftp://issuer.example"}, "issuer must be like https://host/path"),
        ({"issuer": "https://"}, "issuer must be like https://host/path"),
        ({"issuer": "https://user@issuer.example"}, "issuer must be like https://host/path"),
        ({"issuer": "https://issuer.example?x=1"}, "issuer must be like https://host/path"),
        ({"issuer": "https://issuer.example#x"}, "issuer must be like https://host/path"),
        ({"issuer": "https://issuer.example "}, "issuer must be like https://host/path"),
        ({"issuer": "https://issuer.example\n"}, "issuer must be like https://host/path"),
        ({"issuer": "https://issuer.example:x"}, "issuer must be like https://host/path"),
        ({"issuer": "https://[::1"}, "issuer must be like https://host/path"),
        ({"issuer": "http://issuer.example"}, "issuer: plain http and private addresses need"),
        ({"issuer": "http://127.0.0.1:80"}, "issuer: plain http and private addresses need"),
        ({"issuer": "https://localhost"}, "issuer: plain http and private addresses need"),
        ({"issuer": "https://10.0.0.1"}, "issuer: plain http and private addresses need"),
        ({"issuer": "https://169.254.169.254"}, "issuer: plain http and private addresses need"),
        ({"issuer": "https://[::1]"}, "issuer: plain http and private addresses need"),
        ({"jwks_url": "issuer.example/keys"}, "jwks_url must be like https://host/path"),
        ({"jwks_url": "http://issuer.example"}, "jwks_url: plain http and private addresses need"),
        ({"audience": ""}, "audience must be set"),
        ({"claims": {}}, "claims must ask for at least one claim"),
        ({"claims": {"sub": 1.5}}, "claims.sub must be a text"),
        ({"claims": {"sub": ["a"]}}, "claims.sub must be a text"),
        ({"claims": {"sub": {}}}, "claims.sub must be a text"),
        ({"claims": {"k8s": {"namespace": None}}}, "claims.k8s.namespace must be a text"),
        ({"project": ""}, "project must be"),
        ({"project": "a b"}, "project must be"),
        ({"project": "claim:"}, "project must be"),
        ({"budget_day": "5eur"}, "budget_day: '5eur' is not an amount"),
        ({"budget_month": "-5usd"}, "budget_month: '-5usd' is not an amount"),
        ({"budget_total": "5usd/month"}, "budget_total: '5usd/month' is not an amount"),
    ],
)
def test_mistakes(changes: dict[str, Any], told: str) -> None:
    """What makes no sense is told with the entry's number, its field and what to do."""
    entries = (entry(), entry(**{"issuer": f"{ISSUER}/second", **changes}))
    with pytest.raises(SettingsError) as caught:
        read_rules(entries)
    assert str(caught.value).startswith(f"oidc[2].{told}")


@pytest.mark.parametrize("changes", [{"jwks_url": None}, {"private": True}])
def test_one_issuer_has_one_place(changes: dict[str, Any]) -> None:
    """Entries of one issuer agree on where its keys are and whether that may be inside."""
    with pytest.raises(SettingsError, match=r"oidc\[2\]: jwks_url and private must be the same"):
        read_rules((entry(), entry(**changes)))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080", "http://localhost", "https://10.1.2.3/x", "http://idp.internal"],
)
def test_private_issuers(url: str) -> None:
    """An entry that says private may name plain http and private addresses."""
    (rule,) = read_rules((entry(issuer=url, jwks_url=f"{url}/keys", private=True),))
    assert (rule.issuer.url, rule.issuer.is_private) == (url, True)


@pytest.mark.parametrize("project", ["default", "a.b-c_9", "claim", "claim:project_id"])
def test_projects(project: str) -> None:
    """A project is named, or said to be the value of a claim."""
    (rule,) = read_rules((entry(project=project),))
    assert rule.said.project == project


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_page(example: str) -> None:
    """Each example of docs/oidc.md can be copied into a file and is sound."""
    entries = msgspec.convert(tomllib.loads(example)["oidc"], tuple[OidcSettings, ...])
    assert len(read_rules(entries)) == example.count("[[oidc]]")


def test_the_page_has_an_example_for_each_platform() -> None:
    """Vercel, GitHub, Kubernetes, Google and one's own are shown."""
    issuers = " ".join(EXAMPLES)
    for host in ("oidc.vercel.com", "githubusercontent.com", "kubernetes", "accounts.google.com"):
        assert host in issuers
    assert len(EXAMPLES) >= 7
