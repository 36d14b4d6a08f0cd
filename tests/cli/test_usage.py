from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from embedway.clock import SystemClock
from embedway.ledger import UsageLine
from embedway.secret import Secret
from embedway.store.books import UsageBook
from embedway.store.database import ATTEMPTS, open_database
from embedway.store.keys import KeyStore
from tests.cli.running import Run

SMALL = "openai/text-embedding-3-small"
DAY_MS = 86_400_000
SOME_DAY = 1_800_000_000_000  # 2027-01-15 08:00 UTC


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    """The database that the command reads."""
    engine = open_database(home)
    yield engine
    engine.dispose()


def write(engine: Engine, *changes: dict[str, Any]) -> None:
    """A line in the usage book for each of *changes*."""
    usual = {
        "created_ms": SOME_DAY,
        "key_id": "open",
        "model": SMALL,
        "provider": "openai",
        "inputs": 2,
        "tokens": 10,
        "cost": 200_000,
        "market_cost": 300_000,
        "latency_ms": 12,
        "status": 200,
        "saved": 100_000,
    }
    book = UsageBook(engine)
    for number, change in enumerate(changes):
        book.add(UsageLine(**{"id": f"line{number}", **usual, **change}))
    book.close()


def attempt(id: str, state: str, **changes: Any) -> dict[str, Any]:
    """A row of the attempts book."""
    return {
        "id": id,
        "request_id": "01M2RV50ENRGT4K2CHJ0WC4N1H",
        "process": "p",
        "key_id": "open",
        "project": "default",
        "model": SMALL,
        "provider": "openai",
        "inputs": 3,
        "state": state,
        "reserved_tokens": 100,
        "reserved_cost": 2_000_000,
        "tokens": None,
        "cost": None,
        "created_ms": SOME_DAY,
        "ended_ms": None,
        "status": None,
        "code": None,
        **changes,
    }


def keep_attempts(engine: Engine) -> None:
    """One attempt or more of each state."""
    rows = [
        attempt("1", "settled", tokens=12, cost=240_000),
        attempt("2", "settled", tokens=2**62, cost=0),
        attempt("3", "unknown"),
        attempt("4", "unbilled"),
        attempt("5", "reserved"),
        attempt("6", "reserved"),
    ]
    with engine.begin() as connection:
        connection.execute(insert(ATTEMPTS), rows)


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return re.split("  +", line)


def test_a_table(run: Run, engine: Engine) -> None:
    """Without options there is a line for each model, and their total under it."""
    write(
        engine,
        {},
        {"status": 502, "code": "provider_unavailable", "tokens": 0, "cost": 0},
        {"model": "local/wordllama-256", "tokens": 1_234_567, "cost": 0, "market_cost": 0},
    )
    ended = run("usage")
    assert ended.code == 0
    assert list(map(cells, ended.out.splitlines())) == [
        ["MODEL", "REQUESTS", "ERRORS", "INPUTS", "TOKENS", "COST $", "AT LIST PRICE $", "SAVED $"],
        ["local/wordllama-256", "1", "0", "2", "1,234,567", "0", "0", "0.0000001"],
        [SMALL, "2", "1", "4", "10", "0.0000002", "0.0000006", "0.0000002"],
        ["TOTAL", "3", "1", "6", "1,234,577", "0.0000002", "0.0000006", "0.0000003"],
    ]


def test_json(run: Run, engine: Engine) -> None:
    """For programs there is one object: what was asked, the groups and the total, with tokens as
    whole numbers of any size and money as text."""
    write(engine, {"tokens": 2**62, "cost": 2**62}, {"tokens": 2**62, "cost": 2**62})
    answer = json.loads(run("usage", "--by", "day,model", "--json").out)
    sums = {
        "requests": 2,
        "errors": 0,
        "inputs": 4,
        "tokens": 2**63,
        "cost": "9223372.036854775808",
        "market_cost": "0.0000006",
        "saved": "0.0000002",
    }
    assert answer == {
        "by": ["day", "model"],
        "since_ms": None,
        "until_ms": None,
        "groups": [{"day": "2027-01-15", "model": SMALL, **sums}],
        "total": sums,
    }


def test_csv(run: Run, engine: Engine) -> None:
    """CSV has a line for each group and none of totals, so that it can be added up, and holds what
    callers sent to the last character."""
    users = ["a,b", 'say "hi"', "two\nlines", "Ünïcode 🦜"]
    write(engine, *({"user": user} for user in users))
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "user", "--csv").out)))
    assert [row["user"] for row in rows] == sorted(users)
    assert [row["cost"] for row in rows] == ["0.0000002"] * 4
    assert list(rows[0]) == [
        *("user", "requests", "errors", "inputs", "tokens", "cost", "market_cost", "saved")
    ]


def test_keys_have_names(run: Run, engine: Engine) -> None:
    """A key is shown by its name and its id, and can be asked for by either."""
    key, _ = KeyStore(engine, Secret("pepper"), SystemClock()).create("search")
    write(engine, {"key_id": key.id}, {"key_id": "open"})
    lines = run("usage", "--by", "key").out.splitlines()
    assert sorted(cells(line)[0] for line in lines[1:-1]) == ["open", f"search ({key.id})"]
    for wanted in (key.id, "search"):
        answer = json.loads(run("usage", "--by", "key", "--key", wanted, "--json").out)
        (group,) = answer["groups"]
        assert (group["key"], group["key_name"], group["requests"]) == (key.id, "search", 1)
    rows = csv.DictReader(io.StringIO(run("usage", "--by", "key", "--csv").out))
    assert {row["key"]: row["key_name"] for row in rows} == {key.id: "search", "open": ""}


def test_a_name_of_two_keys(run: Run, engine: Engine) -> None:
    """A name that two keys share is refused, since either could be meant."""
    store = KeyStore(engine, Secret("pepper"), SystemClock())
    store.create("search")
    store.create("search")
    ended = run("usage", "--key", "search")
    assert ended.code == 2
    assert ended.err == "embedway: --key: 2 keys are called 'search'; give the id\n"


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--project", "team", {"project": "team"}),
        ("--model", "text-embedding-3-large", {"model": "openai/text-embedding-3-large"}),
        ("--model", "my/own", {"model": "my/own"}),
        ("--provider", "azure-eu", {"provider": "azure-eu"}),
        ("--user", "u1", {"user": "u1"}),
        ("--tag", "nightly", {"tags": ("eval", "nightly")}),
        ("--since", "2027-01-16", {"created_ms": SOME_DAY + DAY_MS}),
        ("--until", "2027-01-14", {"created_ms": SOME_DAY - DAY_MS}),
    ],
)
def test_filters(run: Run, engine: Engine, option: str, value: str, field: dict[str, Any]) -> None:
    """Each filter leaves what it names, and nothing else."""
    write(engine, {}, {**field, "tokens": 77})
    total = json.loads(run("usage", option, value, "--json").out)["total"]
    assert (total["requests"], total["tokens"]) == (1, 77)


def test_some_days_ago(run: Run, engine: Engine) -> None:
    """A length of time reaches back from now."""
    now_ms = int(SystemClock().now() * 1000)
    write(engine, {"created_ms": now_ms - 2 * DAY_MS}, {"created_ms": now_ms - 4 * DAY_MS})

    def found(*words: str) -> int:
        total: int = json.loads(run("usage", *words, "--json").out)["total"]["requests"]
        return total

    assert found("--since", "3d") == found("--until", "3d") == 1
    assert found("--since", "5d") == found("--since", "120h", "--until", "60m") == 2
    assert found("--since", "1d") == 0


def test_days_are_whole(run: Run, engine: Engine) -> None:
    """From a day to the same day is that whole day."""
    midnight = SOME_DAY // DAY_MS * DAY_MS
    times = (midnight - 1, midnight, midnight + DAY_MS - 1, midnight + DAY_MS)
    write(engine, *({"created_ms": time} for time in times))
    words = ("--since", "2027-01-15", "--until", "2027-01-15", "--json")
    answer = json.loads(run("usage", *words).out)
    assert answer["total"]["requests"] == 2
    assert (answer["since_ms"], answer["until_ms"]) == (midnight, midnight + DAY_MS)


def test_tags(run: Run, engine: Engine) -> None:
    """A request counts under each of its tags and once in the total, which is said."""
    write(engine, {"tags": ("a", "b")}, {"tags": ("b",)}, {})
    lines = run("usage", "--by", "tag").out.splitlines()
    assert [cells(line)[:2] for line in lines[1:-1]] == [
        ["a", "1"],
        ["b", "2"],
        ["-", "1"],
        ["TOTAL", "3"],
    ]
    assert lines[-1] == "A request counts under each of its tags, and once in the total."


def test_what_callers_sent_cannot_move_the_cursor(run: Run, engine: Engine) -> None:
    """Control characters in a user's name do not reach the terminal."""
    write(engine, {"user": "\x1b[2J\nme"})
    assert "\x1b" not in run("usage", "--by", "user").out


def test_nothing(run: Run) -> None:
    """On a new machine there is nothing to tell, and that is no failure."""
    assert run("usage").out == "no requests\n"
    assert run("usage", "--unknown").out == "no unknown attempts\n"
    assert json.loads(run("usage", "--unknown", "--json").out) == []
    assert json.loads(run("usage", "--json").out)["groups"] == []
    assert run("usage", "--csv").out.count("\n") == 1


def test_attempts(run: Run, engine: Engine) -> None:
    """The attempts book is told by its states, as JSON, as CSV and for people."""
    keep_attempts(engine)
    wanted = {
        "settled_tokens": 2**62 + 12,
        "settled_cost": "0.00000024",
        "unknown_attempts": 1,
        "unknown_tokens_reserved": 100,
        "unbilled_attempts": 1,
        "reserved_attempts": 2,
    }
    assert json.loads(run("usage", "--attempts", "--json").out) == wanted
    (row,) = csv.DictReader(io.StringIO(run("usage", "--attempts", "--csv").out))
    assert row == {name: str(value) for name, value in wanted.items()}
    table = run("usage", "--attempts").out
    assert list(map(cells, table.splitlines()))[1:] == [
        ["settled tokens", "4,611,686,018,427,387,916"],
        ["settled cost", "$0.00000024"],
        ["unknown attempts", "1"],
        ["unknown tokens, at most", "100"],
        ["unbilled attempts", "1"],
        ["attempts under way", "2"],
    ]
    other = json.loads(run("usage", "--attempts", "--provider", "azure", "--json").out)
    assert other["unknown_attempts"] == 0


def test_unknown_attempts(run: Run, engine: Engine) -> None:
    """What a provider may have billed without telling is listed with its time and its request."""
    keep_attempts(engine)
    line = run("usage", "--unknown").out.splitlines()[1]
    assert cells(line) == [
        "2027-01-15 08:00:00 UTC",
        "openai",
        SMALL,
        "3",
        "100",
        "0.000002",
        "req_01M2RV50ENRGT4K2CHJ0WC4N1H",
    ]
    (record,) = json.loads(run("usage", "--unknown", "--json").out)
    assert (record["id"], record["reserved_tokens"]) == ("3", 100)
    (row,) = csv.DictReader(io.StringIO(run("usage", "--unknown", "--csv").out))
    assert (row["id"], row["reserved_cost"]) == ("3", "0.000002")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--by", "colour"), "argument --by: 'colour' is no list of key, model, provider, project"),
        (("--by", "day,day"), "argument --by: 'day,day' is no list of"),
        (("--by", ""), "argument --by: '' is no list of"),
        (("--since", "soon"), "argument --since: 'soon' is neither like 7d, 12h or 90m (ago) nor"),
        (("--until", "2027-02-30"), "argument --until: '2027-02-30' is neither like 7d"),
        (("--until", "9999-12-31"), "argument --until: '9999-12-31' is neither like 7d"),
        (("--since", "1d", "--until", "2d"), "--since is not before --until"),
        (("--csv", "--json"), "--csv and --json: choose one of them"),
        (("--attempts", "--unknown"), "--attempts and --unknown: choose one of them"),
        (("--attempts", "--by", "day"), "--by is about requests of callers, not attempts"),
        (("--attempts", "--user", "u"), "--user is about requests of callers, not attempts"),
        (("--unknown", "--tag", "t"), "--tag is about requests of callers, not attempts"),
        (("--user", "\udcff"), "argument --user: is not UTF-8"),
    ],
)
def test_wrong_usage(run: Run, words: tuple[str, ...], told: str) -> None:
    """What cannot be answered is refused with one line that says why."""
    ended = run("usage", *words)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"embedway: {told}")
    assert ended.err.count("\n") == 1
