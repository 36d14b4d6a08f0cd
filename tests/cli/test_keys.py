from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedway.clock import SystemClock
from tests.cli.running import Run


def test_no_keys(run: Run) -> None:
    """Without keys the list says what that means."""
    assert run("keys", "ls").out.startswith("no keys: the gateway answers loopback callers only")
    assert json.loads(run("keys", "ls", "--json").out) == []


def test_on_a_pipe_the_key_is_alone(run: Run) -> None:
    """A script gets the key and nothing else on standard output."""
    ended = run("keys", "create", "web")
    assert ended.code == 0
    assert ended.out.startswith("gw_prod_")
    assert ended.out.count("\n") == 1
    assert "Shown once" in ended.err
    assert "first key: from now on every caller needs one" in ended.err
    assert "first key" not in run("keys", "create", "web").err


def test_on_a_terminal_the_notes_come_with_the_key(run: Run) -> None:
    """A person sees the key and the notes together."""
    ended = run("keys", "create", "web", "--type", "admin", terminal=True)
    assert ended.out.startswith("gw_admin_")
    assert "Shown once" in ended.out
    assert ended.err == ""


def test_created_as_json(run: Run) -> None:
    """The JSON form holds the key and all that was decided."""
    words = ("keys", "create", "web", "--models", "local/wordllama-256, wordllama-256", "--json")
    record = json.loads(run(*words).out)
    assert record["key"].startswith(f"gw_prod_{record['id']}_")
    assert record["models"] == ["local/wordllama-256", "wordllama-256"]
    assert record["state"] == "active"
    assert record["expires_ms"] is None


def test_the_list_never_shows_a_key(run: Run) -> None:
    """After its creation no part of a key's secret is printed."""
    secret = run("keys", "create", "web", "--models", "wordllama-256").out.strip()
    listed = run("keys", "ls")
    assert "wordllama-256" in listed.out
    for shown in (listed.out, run("keys", "ls", "--json").out):
        assert secret.rpartition("_")[2] not in shown


def test_a_key_of_a_project(run: Run) -> None:
    """A key belongs to the project that it was made for, else to the default one, and the list
    shows which."""
    run("keys", "create", "ours", "--project", "team-a")
    run("keys", "create", "any")
    listed = json.loads(run("keys", "ls", "--json").out)
    assert {key["name"]: key["project"] for key in listed} == {"ours": "team-a", "any": "default"}
    lines = run("keys", "ls").out.splitlines()
    assert "PROJECT" in lines[0]
    assert any("ours" in line and "team-a" in line for line in lines)


def test_a_key_without_fallbacks(run: Run) -> None:
    """A key may use fallbacks unless it was made without, and is of any space unless one is
    named."""
    run("keys", "create", "strict", "--no-fallbacks")
    run("keys", "create", "any")
    listed = json.loads(run("keys", "ls", "--json").out)
    assert {key["name"]: key["allows_fallbacks"] for key in listed} == {
        "strict": False,
        "any": True,
    }
    assert {key["space"] for key in listed} == {None}


@pytest.mark.parametrize(
    "space",
    [
        "local/wordllama-256@256",
        "local/wordllama-256@64",
        "openai/text-embedding-3-small@1",
        "voyage/voyage-4@1024",
        "voyage/voyage-4@1024+query",
        "jina/jina-embeddings-v3#raw@64+document",
    ],
)
def test_a_key_of_a_space(run: Run, space: str) -> None:
    """A key may be pinned to any space that a model has, with or without its input type."""
    record = json.loads(run("keys", "create", "pinned", "--space", space, "--json").out)
    assert record["space"] == space
    assert json.loads(run("keys", "ls", "--json").out)[0]["space"] == space


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000)])
def test_expiry_as_a_length(run: Run, text: str, seconds: int) -> None:
    """A length of time counts from now."""
    before = SystemClock().now()
    record = json.loads(run("keys", "create", "web", "--expires", text, "--json").out)
    after = SystemClock().now()
    assert before + seconds - 1 <= record["expires_ms"] / 1000 <= after + seconds


def test_expiry_as_a_date(run: Run) -> None:
    """A date is the last day, in UTC, on which the key works."""
    ended = run("keys", "create", "web", "--expires", "2999-12-31")
    assert "works until 3000-01-01 00:00 UTC" in ended.err
    assert "3000-01-01 00:00 UTC" in run("keys", "ls").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--expires", "soon"), "'soon' is neither like 30d, 12h or 90m nor a date"),
        (("--expires", "2001-01-01"), "must be in the future"),
        (("--expires", "0d"), "must be in the future"),
        (("--models", " , "), "names nothing"),
        (("--models", "nix"), "--models: The model 'nix' does not exist"),
        (("--type", "root"), "invalid choice"),
        (("--project", "a b"), "1 to 64 of A-Z a-z 0-9 _ . -"),
        (("--project", "*"), "1 to 64 of A-Z a-z 0-9 _ . -"),
        (("--space", ""), "--space: no model here gives vectors in ''"),
        (("--space", "local/wordllama-256"), "such as openai/text-embedding-3-small@1536"),
        (("--space", "local/nix@256"), "--space: no model here"),
        (("--space", "local/wordllama-256@255"), "--space: no model here"),
        (("--space", "local/wordllama-256@256+query"), "--space: no model here"),
        (("--space", "local/wordllama-256#2@256"), "--space: no model here"),
        (("--space", "wordllama-256@256"), "--space: no model here"),
    ],
)
def test_wrong_options(run: Run, home: Path, words: tuple[str, ...], told: str) -> None:
    """A key that could not work as asked for is not made."""
    ended = run("keys", "create", "web", *words)
    assert ended.code == 2
    assert told in ended.err
    assert not home.exists()


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m", "x" * 101])
def test_wrong_names(run: Run, name: str) -> None:
    """A name that would spoil the list is refused."""
    ended = run("keys", "create", name)
    assert ended.code == 2
    assert "a key's name has 1 to 100 printable characters" in ended.err


def test_revoke(run: Run) -> None:
    """A key is revoked by id or by name, and revoking it again does nothing."""
    first = json.loads(run("keys", "create", "web", "--json").out)
    second = json.loads(run("keys", "create", "web", "--json").out)
    assert f"revoked {first['id']} (web)" in run("keys", "revoke", first["id"]).out
    assert json.loads(run("keys", "revoke", "web", "--json").out) == [
        {"id": second["id"], "name": "web"}
    ]
    again = run("keys", "revoke", "web")
    assert (again.code, again.out) == (0, "web was revoked before; nothing to do\n")
    states = [key["state"] for key in json.loads(run("keys", "ls", "--json").out)]
    assert states == ["revoked", "revoked"]


def test_revoke_an_unknown_key(run: Run) -> None:
    """A key that does not exist is exit code 3, so that a script does not believe it is gone."""
    ended = run("keys", "revoke", "web")
    assert ended.code == 3
    assert ended.err == "embedway: no key has the id or name 'web'; see 'embedway keys ls'\n"
