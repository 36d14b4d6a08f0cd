from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedway.catalog_file import load_catalog
from embedway.cli.banner import command_name
from embedway.clock import SystemClock
from embedway.server.run import ListenError
from tests.cli.running import Run

SERVE = "embedway.server.run.serve"
CONFIG = """
[local]
enabled = {local}
[providers.tei]
kind = "openai-compatible"
base_url = "http://127.0.0.1:8080/v1"
private = true
models = {{ "openai/text-embedding-3-small" = "small" }}
[providers.vault]
kind = "openai"
api_key_file = "credential"
"""


class Served:
    """In place of the server: remembers the settings, and is ready at once."""

    def __init__(self, *, is_open: bool = True, keys: tuple[str, ...] = ()) -> None:
        self.loaded: list[Any] = []
        self._is_open = is_open
        self._keys = tuple(SimpleNamespace(state=lambda now, s=state: s) for state in keys)

    def __call__(self, loaded: Any, on_ready: Callable[[Any], None]) -> None:
        """Be ready."""
        self.loaded.append(loaded)
        host = loaded.settings.server.listen.replace(":0", ":4711")
        runtime = SimpleNamespace(
            settings=loaded.settings,
            clock=SystemClock(),
            catalog=load_catalog(),
            keys=SimpleNamespace(all=lambda: self._keys),
        )
        on_ready(SimpleNamespace(url=f"http://{host}", runtime=runtime, is_open=self._is_open))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """A server without keys."""
    server = Served()
    monkeypatch.setattr(SERVE, server)
    return server


@pytest.mark.parametrize(
    ("words", "listen"),
    [
        ((), "127.0.0.1:1536"),
        (("--port", "0"), "127.0.0.1:0"),
        (("--port", "65535"), "127.0.0.1:65535"),
        (("--host", "localhost"), "localhost:1536"),
        (("--listen", "0.0.0.0:8080"), "0.0.0.0:8080"),
        (("--listen", "0.0.0.0:8080", "--port", "9"), "0.0.0.0:9"),
        (("--listen", "::1"), "[::1]:1536"),
        (("--listen", "[::1]"), "[::1]:1536"),
        (("--listen", "[::1]:8080"), "[::1]:8080"),
        (("--listen", "[::1]", "--port", "7"), "[::1]:7"),
    ],
)
def test_where_it_listens(run: Run, served: Served, words: tuple[str, ...], listen: str) -> None:
    """The command line says address and port, and leaves the rest as configured."""
    assert run("serve", *words).code == 0
    assert served.loaded[0].settings.server.listen == listen


def test_the_command_line_goes_before_the_file(run: Run, served: Served, work: Path) -> None:
    """What the command line does not say is taken from the file, and its origin is kept."""
    file = work / "own.toml"
    file.write_text('[server]\nlisten = "127.0.0.1:99"\n[log]\nlevel = "error"\n')
    run("serve", "--config", str(file), "--host", "localhost", "--log-level", "info")
    loaded = served.loaded[0]
    assert loaded.settings.server.listen == "localhost:99"
    assert loaded.settings.log.level == "info"
    assert loaded.origin("log.level") == "command line"


@pytest.mark.parametrize("port", ["-1", "65536", "1.5", "٣"])
def test_no_port(run: Run, port: str) -> None:
    """What is no port is refused before anything starts."""
    ended = run("serve", f"--port={port}")
    assert ended.code == 2
    assert "is no port: 0 to 65535" in ended.err


def test_the_banner(run: Run, served: Served, home: Path) -> None:
    """A newcomer is told the address, what is ready, and what to type next."""
    lines = run("serve", "--port", "0").out.splitlines()
    assert lines[0].endswith("embeddings gateway               http://127.0.0.1:4711")
    told = "\n".join(lines)
    assert "local/wordllama-256  ready  256 dims · in-process · offline · free" in told
    assert "providers            no key — set OPENAI_API_KEY, GOOGLE_API_KEY, " in told
    assert f"store    {home / 'embedway.db'}" in told
    assert "auth     off, loopback only" in told
    assert "docs     http://127.0.0.1:4711/docs" in told
    assert "metrics  http://127.0.0.1:4711/metrics" in told
    assert lines[-3] == ""
    assert lines[-2].startswith("  export OPENAI_BASE_URL=http://127.0.0.1:4711/v1   # ")
    assert 'embed "Sunny day at the beach"' in lines[-1]


def test_the_banner_shows_no_credential(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a credential only the variable's name and the last four characters are shown."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    told = run("serve").out
    assert "ready  OPENAI_API_KEY ····6789 · 3 models" in told
    assert "others               no key — set GOOGLE_API_KEY, " in told
    assert "sk-secret" not in told


def test_the_banner_with_accounts_of_the_file(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts without a credential, with one from a file, and a local model that is off."""
    (work / "credential").write_text("sk-secret-0123456789\n")
    (work / "embedway.toml").write_text(CONFIG.format(local="false"))
    monkeypatch.setattr(SERVE, Served(is_open=False, keys=("active", "revoked", "active")))
    told = run("serve").out
    assert "local/wordllama-256  off    local.enabled is false" in told
    assert "ready  no credential · 1 model\n" in told
    assert "embedway.toml ····6789 · 3 models" in told
    assert "auth     on (2 keys)" in told
    assert "export OPENAI_API_KEY=gw_…" in told
    assert 'embed "' not in told


def test_notes_of_the_settings_are_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, served: Served
) -> None:
    """What the settings noticed is said at the start."""
    from embedway.origins import load_settings

    def noticing(**options: Any) -> Any:
        loaded = load_settings(**options)
        return type(loaded)(settings=loaded.settings, origins=loaded.origins, notes=("mind this",))

    monkeypatch.setattr("embedway.origins.load_settings", noticing)
    assert "  note: mind this\n" in run("serve").out


def test_ready_as_json(run: Run, served: Served, home: Path) -> None:
    """A script waits for one line of JSON that holds the address."""
    ended = run("serve", "--json")
    assert ended.out.count("\n") == 1
    assert json.loads(ended.out) == {
        "url": "http://127.0.0.1:1536",
        "version": json.loads(run("version", "--json").out)["version"],
        "models": ["local/wordllama-256"],
        "store": str(home / "embedway.db"),
        "auth": {"open": True, "keys": 0},
        "notes": [],
    }


def test_an_address_that_cannot_be_had(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port in use is one line, not a traceback."""

    def refuse(loaded: object, on_ready: object) -> None:
        raise ListenError("cannot listen on 127.0.0.1:1536: it is in use")

    monkeypatch.setattr(SERVE, refuse)
    ended = run("serve")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "embedway: cannot listen on 127.0.0.1:1536: it is in use\n"


@pytest.mark.parametrize(
    ("started_as", "is_found", "typed"),
    [
        ("{here}/.venv/bin/embedway", False, ".venv/bin/embedway"),
        ("{here}/a folder/embedway", False, "'a folder/embedway'"),
        ("/opt/other/embedway", False, "/opt/other/embedway"),
        ("{here}/.venv/bin/embedway", True, "embedway"),
    ],
)
def test_the_command_can_be_typed(
    started_as: str, is_found: bool, typed: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the banner tells to type works from where it was started."""
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}" if is_found else None)
    assert command_name(started_as.format(here=work)) == typed
