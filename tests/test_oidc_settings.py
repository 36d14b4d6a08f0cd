"""`[[oidc]]` in the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedway.origins import Origins, flatten, load_settings
from embedway.settings import OidcSettings
from embedway.wrong_settings import SettingsError

SOUND = """
[[oidc]]
issuer = "https://oidc.vercel.com/acme"
audience = "${AUDIENCE}"
claims = { project_id = "123", run = 7, protected = true, "kubernetes.io" = { namespace = "a" } }
models = ["openai/text-embedding-3-small"]
budget_day = "5usd"

[[oidc]]
issuer = "https://accounts.google.com"
audience = "a"
"""


def load(folder: Path, text: str) -> Origins:
    """The settings of a file with this text."""
    path = folder / "embedway.toml"
    path.write_text(text, "utf-8")
    return load_settings(environ={"HOME": "/h", "AUDIENCE": "https://e.example"}, config=path)


def test_entries(tmp_path: Path) -> None:
    """Entries stand in the order of the file, and claims keep the type they are written with."""
    first, second = load(tmp_path, SOUND).settings.oidc
    assert first == OidcSettings(
        issuer="https://oidc.vercel.com/acme",
        audience="https://e.example",
        claims={
            "project_id": "123",
            "run": 7,
            "protected": True,
            "kubernetes.io": {"namespace": "a"},
        },
        models=("openai/text-embedding-3-small",),
        budget_day="5usd",
    )
    assert [type(value) for value in first.claims.values()] == [str, int, bool, dict]
    assert second == OidcSettings(issuer="https://accounts.google.com", audience="a")


def test_origins(tmp_path: Path) -> None:
    """Each value of an entry is shown under its number, with the file it comes from."""
    loaded = load(tmp_path, SOUND)
    shown = dict(flatten(loaded.settings))
    assert shown["oidc[1].claims.kubernetes.io.namespace"] == "a"
    assert shown["oidc[2].issuer"] == "https://accounts.google.com"
    assert loaded.origin("oidc[2].issuer").endswith("embedway.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("isuer = 'x'", "oidc[2].isuer: no such setting; did you mean issuer?"),
        ("issuer = 'x'", "oidc[2]: Object missing required field `audience`"),
        ("issuer = 5\naudience = 'a'", "oidc[2].issuer: Expected `str`, got `int`"),
        ("issuer = 'x'\naudience = 'a'\nmodels = 'm'", "oidc[2].models: Expected `array"),
        ("issuer = 'x'\naudience = 'a'\nmodels = [5]", "oidc[2].models: Expected `str`"),
        ("issuer = 'x'\naudience = 'a'\nconcurrency = 0", "oidc[2].concurrency: Expected `int`"),
        ("issuer = 'x'\naudience = 'a'\nclaims = 'c'", "oidc[2].claims: Expected `object`"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, told: str) -> None:
    """A wrong name or value is told with the file, the entry's number and the field."""
    sound = '[[oidc]]\nissuer = "https://a.example"\naudience = "a"\n'
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, f"{sound}[[oidc]]\n{text}")
    assert f"embedway.toml: {told}" in str(caught.value)


@pytest.mark.parametrize("text", ["[oidc]\nissuer = 'x'", "oidc = 'x'", "oidc = 5"])
def test_one_table_is_no_list(tmp_path: Path, text: str) -> None:
    """One pair of brackets too few is told as that."""
    with pytest.raises(SettingsError, match=r"oidc: must be a list of tables, \[\[oidc\]\]"):
        load(tmp_path, text)


def test_no_variable() -> None:
    """Entries stand in the file alone: there is no variable for them."""
    with pytest.raises(SettingsError, match="EMBEDWAY_OIDC: no such setting"):
        load_settings(environ={"HOME": "/h", "EMBEDWAY_OIDC": "x"}, folder=Path("/nowhere"))
