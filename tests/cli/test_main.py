from __future__ import annotations

import re
import subprocess
import sys

import pytest

from embedway import __version__
from embedway.cli import VERBS, main
from embedway.cli.stop import EXIT_CODES, Stop
from embedway.errors import ModelNotFound
from embedway.store.database import StoreError
from embedway.wrong_settings import SettingsError
from tests.cli.running import Run


@pytest.mark.parametrize("words", [("version",), ("--version",), ("-V",)])
def test_version(run: Run, words: tuple[str, ...]) -> None:
    """The version is told by a verb and by an option."""
    assert run(*words).out == f"embedway {__version__}\n"


def test_version_as_json(run: Run) -> None:
    """The version can be read by a program."""
    assert f'"version": "{__version__}"' in run("version", "--json").out


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_general_help(run: Run, word: str) -> None:
    """The help names every verb and every exit code."""
    ended = run(word)
    assert ended.code == 0
    for verb in VERBS:
        assert f"  {verb} " in ended.out
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"  {code} +{re.escape(meaning)}", ended.out)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(run: Run, verb: str) -> None:
    """Every verb explains itself and the exit codes."""
    ended = run(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"usage: embedway {verb}" in ended.out
    assert "exit codes:" in ended.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("servr",), "there is no verb 'servr'; did you mean 'serve'?"),
        (("xyzzy",), "there is no verb 'xyzzy'; see 'embedway --help'"),
        (("version", "--nope"), "unrecognized arguments: --nope; see 'embedway version --help'"),
        (("--port", "x"), "argument --port: 'x' is no port: 0 to 65535; see 'embedway serve"),
        (("keys",), "the following arguments are required: ACTION; see 'embedway keys --help'"),
        (("keys", "ls", "--nope"), "unrecognized arguments: --nope; see 'embedway keys --help'"),
        (("models", "--config", "none.toml"), "none.toml: no such file"),
    ],
)
def test_wrong_usage(run: Run, words: tuple[str, ...], told: str) -> None:
    """Wrong usage is one line that says what to do, and exit code 2."""
    ended = run(*words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"embedway: {told}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Stop("so it is"), 1, "so it is"),
        (Stop("so it is", 3), 3, "so it is"),
        (SettingsError("a.b: wrong"), 2, "a.b: wrong"),
        (StoreError("the folder is full"), 1, "the folder is full"),
        (ModelNotFound("no such model", model="x"), 1, "no such model"),
        (PermissionError(13, "Permission denied", "a.txt"), 1, "a.txt: Permission denied"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (FileNotFoundError("the package x is missing"), 1, "the package x is missing"),
    ],
)
def test_expected_errors_are_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, told: str
) -> None:
    """What a user can bring about never shows a traceback."""

    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("embedway.cli.version.run", fail)
    ended = run("version")
    assert (ended.code, ended.err) == (code, f"embedway: {told}\n")


def test_a_bug_shows_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected is not hidden."""

    def fail(arguments: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("embedway.cli.version.run", fail)
    with pytest.raises(ZeroDivisionError):
        run("version")


def test_an_interruption_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends with 130 and without a word."""

    def interrupt(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("embedway.cli.version.run", interrupt)
    ended = run("version")
    assert (ended.code, ended.out, ended.err) == (130, "", "")


def test_no_verb_is_serve(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a verb the command serves, with options or without."""
    asked = []

    def serve(arguments: object) -> int:
        asked.append(vars(arguments)["port"])
        return 0

    monkeypatch.setattr("embedway.cli.serve.run", serve)
    assert run().code == 0
    assert run("--port", "0").code == 0
    assert asked == [None, 0]


def test_the_process_arguments_are_the_default(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The entry point reads the process's own arguments."""
    monkeypatch.setattr(sys, "argv", ["embedway", "version"])
    assert main() == 0
    assert capsys.readouterr().out == f"embedway {__version__}\n"


def test_version_imports_little() -> None:
    """`embedway version` is fast because it leaves the rest of the house unread."""
    script = (
        "import sys; from embedway.cli import main; main(['version']); "
        "print([name for name in ('numpy', 'msgspec', 'sqlalchemy', 'uvicorn', 'asyncio') "
        "if name in sys.modules])"
    )
    # -S leaves out the hooks of site-packages, which may import what they like.
    path = f"import sys; sys.path[:0] = {[entry for entry in sys.path if entry]!r}\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
