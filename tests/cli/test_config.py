from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.running import Run


@pytest.fixture
def file(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file, with two variables beside it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("EMBEDWAY_LOG_LEVEL", "info")
    path = work / "embedway.toml"
    path.write_text('[server]\nlisten = "127.0.0.1:99"\n')
    return path


def test_every_setting_with_its_origin(run: Run, file: Path, home: Path) -> None:
    """Each value says whether it is from the file, the environment or a default."""
    records = {
        record["name"]: (record["value"], record["origin"])
        for record in json.loads(run("config", "show", "--json").out)
    }
    assert records["home"] == (str(home), "environment EMBEDWAY_HOME")
    assert records["server.listen"] == ("127.0.0.1:99", str(file))
    assert records["log.level"] == ("info", "environment EMBEDWAY_LOG_LEVEL")
    assert records["local.batch_inputs"] == (64, "default")
    assert records["providers.openai.api_key"] == ("***", "environment OPENAI_API_KEY")
    assert records["models"] == ({}, "default")


def test_the_table(run: Run, file: Path) -> None:
    """The table has the origins only when asked, and credentials never."""
    short, long = run("config", "show").out, run("config", "show", "--origin").out
    assert short.splitlines()[0].split() == ["SETTING", "VALUE"]
    assert long.splitlines()[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    assert "environment OPENAI_API_KEY" in long
    assert "environment" not in short
    for shown in (short, long, run("config", "show", "--json").out):
        assert "sk-secret" not in shown


def test_check_good_settings(run: Run, file: Path) -> None:
    """Good settings are told what they would serve."""
    assert run("config", "check").out == "ok: 4 models would be served\n"
    assert json.loads(run("config", "check", "--json").out) == {
        "ok": True,
        "models": 4,
        "notes": [],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nlissen = 1\n", "server.lissen: no such setting; did you mean listen?"),
        ("[server]\nlisten = 1\n", "server.listen"),
        ("[providers.x]\n", "providers.x: there is no provider 'x'"),
        ("[", "not valid TOML"),
    ],
)
def test_check_wrong_settings(run: Run, work: Path, text: str, told: str) -> None:
    """Wrong settings are one line that names the setting, and exit code 2."""
    (work / "embedway.toml").write_text(text)
    ended = run("config", "check")
    assert ended.code == 2
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_notes_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential that is ignored because another one is set is mentioned."""
    monkeypatch.setattr(
        "embedway.origins.CREDENTIAL_NAMES", {"openai": ("OPENAI_API_KEY", "OTHER_KEY")}
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("OTHER_KEY", "sk-0123456789abcdef")
    assert "note: OTHER_KEY is ignored" in run("config", "check").out
