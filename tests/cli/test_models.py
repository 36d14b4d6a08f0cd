from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from embedway.catalog_file import load_catalog
from tests.cli.running import Run

HEAD = ["MODEL", "DIMENSIONS", "MAX TOKENS", "$ PER 1M TOKENS", "PROVIDERS", "STATE"]
LOCAL = ["local/wordllama-256", "64, 128 or 256", "65,536", "free", "local", "ready"]


def test_what_is_served(run: Run) -> None:
    """Without a credential the local model is listed, and how to see the rest."""
    lines = run("models").out.splitlines()
    assert re.split("  +", lines[0]) == HEAD
    assert re.split("  +", lines[1]) == LOCAL
    assert (
        lines[2] == f"{len(load_catalog().models) - 1} more in the catalogue: embedway models --all"
    )


def test_the_whole_catalogue(run: Run) -> None:
    """With --all every model says what keeps it from being served."""
    records = {record["id"]: record for record in json.loads(run("models", "--all", "--json").out)}
    assert list(records) == [model.id for model in load_catalog().models]
    assert records["local/wordllama-256"]["state"] == "ready"
    assert records["openai/text-embedding-3-small"]["state"] == "set OPENAI_API_KEY"
    assert records["openai/text-embedding-3-small"]["usd_per_million_tokens"] == "0.02"
    assert records["google/text-multilingual-embedding-002"]["state"] == "no account"
    assert "more in the catalogue" not in run("models", "--all").out


def test_an_account_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A served model names the accounts that serve it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    records = {record["id"]: record for record in json.loads(run("models", "--json").out)}
    small = records["openai/text-embedding-3-small"]
    assert (small["providers"], small["state"]) == (["openai"], "ready")
    assert len(records) == 4


def test_aliases(run: Run, work: Path) -> None:
    """The operator's own names are listed with what they stand for."""
    (work / "embedway.toml").write_text('[models.docs]\nmodel = "wordllama-256"\n')
    assert "docs stands for local/wordllama-256\n" in run("models").out
    assert json.loads(run("models", "--json").out)[0]["aliases"] == ["docs"]


def test_a_wrong_alias(run: Run, work: Path) -> None:
    """An alias that leads nowhere is a wrong setting."""
    (work / "embedway.toml").write_text('[models.docs]\nmodel = "nix"\n')
    ended = run("models")
    assert ended.code == 2
    assert ended.err == "embedway: models: the alias 'docs' stands for 'nix', which is no model\n"


def test_two_accounts_of_one_model(run: Run, work: Path) -> None:
    """Accounts that serve the same model stand side by side."""
    (work / "embedway.toml").write_text(
        '[providers.a]\nkind = "openai"\napi_key = "x"\n'
        '[providers.b]\nkind = "openai"\napi_key = "y"\n'
    )
    records = {record["id"]: record for record in json.loads(run("models", "--json").out)}
    assert records["openai/text-embedding-3-small"]["providers"] == ["a", "b"]
