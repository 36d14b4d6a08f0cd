"""What a key may do and spend, as the command line gives and shows it; and its rotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from embedway.clock import SystemClock
from embedway.secret import Secret
from embedway.store.database import WINDOWS, open_database
from embedway.store.keys import KeyStore, load_pepper
from tests.cli.running import Run

TERMS = (
    *("--budget", "5usd/month", "--budget", "0.5usd/day", "--budget", "10usd"),
    *("--providers", "local, openai", "--rpm", "600", "--tpm", "1000000", "--concurrency", "8"),
    *("--ip", "10.0.0.0/8", "--ip", "2001:DB8::/32", "--ip", "192.0.2.7", "--ip", "10.0.0.0/8"),
)


@pytest.fixture(autouse=True)
def openai(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account beside the local model."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operator-0123456789")


def records(run: Run, *words: str) -> Any:
    """What a command prints as JSON."""
    ended = run("keys", *words, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def checked(home: Path, text: str) -> str | None:
    """The name of the key whose present text that is."""
    engine = open_database(home)
    try:
        store = KeyStore(engine, load_pepper(home), SystemClock())
        return next((k.name for k in store.all() if k.hash == store.hash(text.encode())), None)
    finally:
        engine.dispose()


def test_all_terms(run: Run) -> None:
    """Every term that a key is made with is told at once, by `ls` and by `show`, as it will
    count."""
    made = records(run, "create", "ci", *TERMS)
    del made["key"]
    assert made["providers"] == ["local", "openai"]
    assert made["ips"] == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"]
    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (600, 1_000_000)
    assert (made["concurrency"], made["last_used_ms"]) == (8, None)
    amounts = {budget["period"]: budget["amount_usd"] for budget in made["budgets"]}
    assert amounts == {"day": "0.5", "month": "5", "total": "10"}
    assert {budget["spent_usd"] for budget in made["budgets"]} == {"0"}
    assert records(run, "ls") == records(run, "show", "ci") == [made]


def test_no_terms(run: Run) -> None:
    """A key is made without limits unless they are asked for."""
    made = records(run, "create", "ci")
    limits = ("models", "providers", "ips", "requests_per_minute", "tokens_per_minute", "space")
    assert [made[name] for name in (*limits, "concurrency", "expires_ms")] == [None] * 8
    assert made["budgets"] == []
    assert "none" in run("keys", "ls").out.splitlines()[1]


def test_the_list_is_brief(run: Run) -> None:
    """The list shows a key's limits in a few words."""
    run("keys", "create", "ci", *TERMS)
    head, line = run("keys", "ls").out.splitlines()
    assert "LIMITS" in head
    for words in (
        "0.5usd/day, 5usd/month, 10usd",
        "600 rpm",
        "1000000 tpm",
        "8 at a time",
        "by local, openai",
        "from 10.0.0.0/8, 2001:db8::/32",
    ):
        assert words in line


def test_show(run: Run, home: Path) -> None:
    """A key's page has a line for each term, with what is spent of each budget and reserved, and
    not the key."""
    text = run("keys", "create", "ci", *TERMS, "--no-fallbacks", "--expires", "2999-12-31").out
    (key,) = records(run, "show", "ci")
    engine = open_database(home)
    with engine.begin() as connection:
        row = connection.exec_driver_sql("SELECT id FROM budgets WHERE period = 'total'").one()
        spent = {"spent": 1_500_000_000_000, "reserved": 250_000_000_000}
        connection.execute(insert(WINDOWS).values(budget_id=row.id, starts_ms=0, **spent))
    engine.dispose()

    page = run("keys", "show", key["id"]).out
    lines = dict(line.split("  ", 1) for line in page.splitlines() if "budget" not in line)
    told = {name: value.strip() for name, value in lines.items()}
    assert (told["id"], told["name"], told["models"]) == (key["id"], "ci", "all")
    assert (told["providers"], told["requests a minute"]) == ("local, openai", "600")
    assert (told["tokens a minute"], told["requests at a time"]) == ("1,000,000", "8")
    assert (told["fallbacks"], told["expires"]) == ("refused", "3000-01-01 00:00 UTC")
    assert "10usd: $1.5 spent, $0.25 reserved, $8.25 left\n" in page
    assert "0.5usd/day: $0 spent, $0 reserved, $0.5 left until" in page
    assert text.strip().rpartition("_")[2] not in page


def test_show_all_of_a_name(run: Run) -> None:
    """A name shows every key that has it."""
    ids = [records(run, "create", "ci")["id"] for _ in range(2)]
    assert [key["id"] for key in records(run, "show", "ci")] == ids
    assert run("keys", "show", "ci").out.count("last used") == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--budget", "5eur"), "argument --budget: '5eur' is not an amount in US dollars"),
        (("--budget", "5usd/week"), "'5usd/week' is not a budget, such as 5usd/month"),
        (("--budget", "-5usd"), "--budget"),
        (("--budget", "9000000usd"), "more than the most that fits"),
        (("--budget", "5usd/day", "--budget", "6usd/day"), "--budget: give one for each period"),
        (("--providers", "nix"), "--providers: there is no account 'nix' here; there is openai"),
        (("--providers", ","), "argument --providers: names nothing"),
        (("--rpm", "0"), "argument --rpm: '0' is not a whole number from 1 to 1000000000"),
        (("--rpm", "1.5"), "argument --rpm"),
        (("--rpm", "٣"), "argument --rpm"),
        (("--tpm", "-1"), "argument --tpm"),
        (("--tpm", "many"), "argument --tpm"),
        (("--concurrency", "1000000001"), "argument --concurrency"),
        (("--ip", "10.1.2.3/8"), "argument --ip: '10.1.2.3/8' is an address within a network"),
        (("--ip", "localhost"), "'localhost' is neither an IP address nor a network"),
        (("--ip", ""), "argument --ip"),
    ],
)
def test_wrong_terms(run: Run, home: Path, words: tuple[str, ...], told: str) -> None:
    """A wrong term is told with its option, and no key is made."""
    ended = run("keys", "create", "ci", *words)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert not home.exists()


def test_rotate(run: Run, home: Path) -> None:
    """On a pipe the new key is alone; the old text is no longer the key's own, and the key itself
    is the same."""
    old = run("keys", "create", "ci", *TERMS).out.strip()
    (before,) = records(run, "show", "ci")
    ended = run("keys", "rotate", "ci")
    new = ended.out.strip()

    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert new.startswith(f"gw_prod_{before['id']}_")
    assert (checked(home, new), checked(home, old)) == ("ci", None)
    assert "its text of before works until" in ended.err
    (after,) = records(run, "show", "ci")
    assert {**after, "previous_until_ms": None} == before
    assert "text before this one" in run("keys", "show", "ci").out


@pytest.mark.parametrize(
    ("words", "seconds"),
    [((), 86_400), (("--overlap", "90m"), 5400), (("--overlap", "7d"), 604_800)],
)
def test_overlap(run: Run, words: tuple[str, ...], seconds: int) -> None:
    """The old text works as long as the overlap says, a day unless it says something."""
    key = records(run, "create", "ci")
    now = SystemClock().now()
    rotated = records(run, "rotate", key["id"], *words)

    assert rotated["id"] == key["id"]
    assert rotated["key"] != key["key"]
    assert 0 <= rotated["previous_until_ms"] / 1000 - now - seconds + 0.01 < 60


def test_without_overlap(run: Run) -> None:
    """Without an overlap the note says that the old text stops at once."""
    run("keys", "create", "ci")
    assert (
        "its text of before stops within a second"
        in run("keys", "rotate", "ci", "--overlap", "0").err
    )


def test_what_cannot_be_rotated(run: Run) -> None:
    """A name of several keys, a revoked key and an unknown one are refused, each with what to
    do; of a name that only one active key has, that one is rotated."""
    ids = [records(run, "create", "ci")["id"] for _ in range(2)]
    several = run("keys", "rotate", "ci")
    assert (several.code, several.out) == (2, "")
    assert f"2 keys have that name; give an id: {ids[0]}, {ids[1]}" in several.err

    run("keys", "revoke", ids[0])
    assert records(run, "rotate", "ci")["id"] == ids[1]
    revoked = run("keys", "rotate", ids[0])
    assert (revoked.code, revoked.out) == (1, "")
    assert "is revoked; make a new one in its place" in revoked.err
    assert run("keys", "rotate", "nix").code == 3
    assert "neither like 30d" in run("keys", "rotate", "ci", "--overlap", "soon").err


@pytest.mark.parametrize("action", ["show", "rotate", "revoke"])
def test_a_whole_key_as_its_name(run: Run, action: str) -> None:
    """Whoever gives the key itself means that key, and no message repeats it, also where there is
    none such."""
    text = run("keys", "create", "ci").out.strip()
    ended = run("keys", action, text)
    assert ended.code == 0
    wrong = Secret(f"gw_prod_000000000000_{'ab' * 32}")
    unknown = run("keys", action, wrong.reveal())
    assert unknown.code == 3
    for secret in (text.rpartition("_")[2], "ab" * 32):
        assert secret not in ended.err + unknown.out + unknown.err
    assert text.rpartition("_")[2] not in ended.out
