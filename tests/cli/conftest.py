from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedway.cli import main
from embedway.settings import CREDENTIAL_NAMES
from tests.cli.running import Ended, Run, install
from tests.fakes import ScriptedEmbedder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of its own: no settings, no credentials, state in an empty folder."""
    read = {"PORT", "NO_COLOR", *(name for names in CREDENTIAL_NAMES.values() for name in names)}
    for name in list(os.environ):
        if name.startswith("EMBEDWAY_") or name in read:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("EMBEDWAY_HOME", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "state"


@pytest.fixture
def work() -> Path:
    """The folder the command runs in."""
    return Path.cwd()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("keys", "ls")`; nobody types, unless *stdin* is given as bytes or *terminal* is set."""

    def call(*words: str, stdin: bytes = b"", terminal: bool = False) -> Ended:
        piped = SimpleNamespace(buffer=io.BytesIO(stdin), isatty=lambda: terminal and not stdin)
        monkeypatch.setattr(sys, "stdin", piped)
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        code = main(list(words))
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedEmbedder:
    """In place of the gateway of `embedway embed`."""
    embedder = ScriptedEmbedder(dimensions=256)
    install(embedder, monkeypatch)
    return embedder
