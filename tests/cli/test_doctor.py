from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from embedway.cli.doctor import Finding, examine
from embedway.cli.selftest import GOLDEN, find_faults
from embedway.store.check import check_database
from embedway.store.database import StoreError, open_database
from embedway.types import Vector
from embedway.vectors import as_array, from_numbers, truncate
from tests.cli.running import Run
from tests.fakes import FakeClock

NOW = 1_795_300_000.0


def findings(clock: FakeClock | None = None) -> Iterator[Finding]:
    """What the doctor finds, as far as it is asked for."""
    return examine(Namespace(config=None), clock or FakeClock(now=NOW))


def found(name: str, clock: FakeClock | None = None) -> tuple[str, str]:
    """State and detail of the first finding of that name."""
    finding = next(finding for finding in findings(clock) if finding.name == name)
    return finding.state, finding.detail


def test_all_is_well(run: Run) -> None:
    """On a fresh machine every check is passed, the vectors by the real model."""
    ended = run("doctor")
    lines = [line.split(maxsplit=2) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert [line[:2] for line in lines] == [
        ["ok", name] for name in ("settings", "store", "keys", "clock", "providers", "vectors")
    ]
    assert lines[-1][2] == "local/wordllama-256 gives the right numbers"


def test_as_json(run: Run) -> None:
    """A program reads one object."""
    record = json.loads(run("doctor", "--json").out)
    assert record["ok"] is True
    assert record["checks"][2] == {
        "name": "keys",
        "state": "ok",
        "detail": "none: loopback callers only, without a key",
    }


def test_wrong_settings(run: Run, work: Path) -> None:
    """Without settings nothing else can be checked, and that is a failure."""
    (work / "embedway.toml").write_text("[models.x]\nmodel = 'nix'\n")
    ended = run("doctor", "--json")
    record = json.loads(ended.out)
    assert (ended.code, record["ok"], len(record["checks"])) == (1, False, 1)
    assert "which is no model" in record["checks"][0]["detail"]


def test_a_damaged_store(run: Run, home: Path) -> None:
    """A database that is none fails the check, and the vectors that need it."""
    home.mkdir()
    (home / "embedway.db").write_bytes(b"this is no database" * 1000)
    ended = run("doctor")
    assert ended.code == 1
    assert "fail  store" in ended.out
    assert "Move it away" in ended.out
    assert "fail  vectors" in ended.out


def test_a_damaged_page(run: Run, home: Path) -> None:
    """Damage that opening the database does not meet is found, too."""
    run("keys", "create", "web")
    path = home / "embedway.db"
    data = bytearray(path.read_bytes())
    data[-4096:] = b"\xff" * 4096
    path.write_bytes(bytes(data))
    state, detail = found("store")
    assert state == "fail"
    assert "is damaged" in detail


def test_a_store_that_cannot_be_written(home: Path) -> None:
    """A database that can only be read is found before the first key or bill is lost."""
    engine = open_database(home)
    engine.dispose()
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only = 1"))
    with pytest.raises(StoreError, match="cannot be written: attempt to write a readonly"):
        check_database(engine)
    engine.dispose()


def test_keys(run: Run) -> None:
    """Keys are counted by state; if none is active, that is worth a warning."""
    run("keys", "create", "web", "--expires", "1d")
    run("keys", "create", "old")
    run("keys", "revoke", "old")
    assert found("keys", FakeClock(now=0)) == ("ok", "1 active, 1 revoked")
    assert found("keys", FakeClock(now=4e9)) == ("warn", "1 expired, 1 revoked")


def test_a_wrong_wall_clock() -> None:
    """A clock before the release's own facts is wrong."""
    state, detail = found("clock", FakeClock(now=0))
    assert state == "fail"
    assert detail.startswith("it says 1970-01-01, but this release knows prices of 20")


def test_a_clock_that_goes_back() -> None:
    """A monotonic clock that goes back would break every deadline."""

    class Backwards(FakeClock):
        def monotonic(self) -> float:
            self.advance(-1)
            return super().monotonic()

    assert found("clock", Backwards(now=NOW)) == ("fail", "the monotonic clock went back")


def test_providers(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    """Each account says whether it has a credential, of which four characters are shown."""
    (work / "embedway.toml").write_text(
        '[providers.openai]\napi_key = "sk-secret-0123456789"\n'
        '[providers.bare]\nkind = "openai"\n'
        '[providers.tei]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\nprivate = true\n'
    )
    assert found("openai") == ("ok", f"{work / 'embedway.toml'} ····6789")
    assert found("bare") == ("warn", "no credential is set")
    assert found("tei") == ("ok", "no credential is set, and it is private")
    assert found("providers")[1].startswith("not set: GOOGLE_API_KEY, ")
    monkeypatch.setattr("embedway.cli.doctor.CREDENTIAL_NAMES", {"openai": ("OPENAI_API_KEY",)})
    assert "providers" not in [finding.name for finding in findings()]


def test_notes_are_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings noticed is a warning."""
    names = {"openai": ("OPENAI_API_KEY", "OTHER_KEY")}
    monkeypatch.setattr("embedway.origins.CREDENTIAL_NAMES", names)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    monkeypatch.setenv("OTHER_KEY", "sk-0123456789abcdef")
    first, second = list(findings())[:2]
    assert first.state == "ok"
    assert (second.state, second.detail[:9]) == ("warn", "OTHER_KEY")


def test_without_the_local_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model is off, the vectors are not tested, and that is said."""
    monkeypatch.setenv("EMBEDWAY_LOCAL_ENABLED", "false")
    assert found("vectors")[0] == "warn"


def test_default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is set, the settings are the defaults."""
    monkeypatch.delenv("EMBEDWAY_HOME")
    assert found("settings") == ("ok", "all by default")


def test_wrong_vectors_fail_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the self-test finds is the detail of the failure."""

    async def find(embed: object) -> list[str]:
        return ["one is wrong", "so is another"]

    monkeypatch.setattr("embedway.cli.doctor.find_faults", find)
    assert found("vectors") == ("fail", "local/wordllama-256: one is wrong; so is another")


class Broken:
    """Right vectors, with one thing wrong."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.calls = 0

    def whole(self, text: str) -> Vector:
        """The golden numbers, filled up to 256 and of length 1."""
        start = np.array(GOLDEN[text])
        rest = np.sqrt((1 - np.square(start).sum()) / 252)
        vector = np.concatenate([start, np.full(252, rest)]).astype(np.float32)
        if self.fault == "numbers":
            vector[0] += 2e-6
        if self.fault == "nan":
            vector[9] = np.nan
        return from_numbers(vector)

    async def __call__(self, texts: tuple[str, ...], dimensions: int | None) -> tuple[Vector, ...]:
        """Whole or cut vectors."""
        self.calls += 1
        vectors = [self.whole(text) for text in texts]
        if dimensions is not None and self.fault == "cut":
            return tuple(vector[: 4 * dimensions] for vector in vectors)
        if dimensions is not None and self.fault != "length":
            return tuple(truncate(vector, dimensions) for vector in vectors)
        if self.fault == "duplicates":
            numbers = as_array(vectors[-1]).copy()
            numbers[-1] = -numbers[-1]
            vectors[-1] = from_numbers(numbers)
        if self.fault == "order" and self.calls == 2:
            vectors.reverse()
        return tuple(vectors)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("none", []),
        ("numbers", ["the vector of"] * len(GOLDEN)),
        ("nan", ["the vector of"] * len(GOLDEN)),
        ("duplicates", ["the same text twice", "the order or the company"]),
        ("order", ["the order or the company"]),
        ("cut", ["64 dimensions are not", "128 dimensions are not"]),
        ("length", ["64 dimensions are not", "128 dimensions are not"]),
    ],
)
async def test_the_self_test_finds(fault: str, told: list[str]) -> None:
    """Each law of the vectors is checked: break one and it is named."""
    faults = await find_faults(Broken(fault))
    if fault == "nan":
        assert "holds NaN" in faults[0]
        faults = faults[: len(GOLDEN)]
    assert [text[: len(start)] for text, start in zip(faults, told, strict=True)] == told


async def test_the_self_test_checks_base64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base64 that does not give the numbers back is found."""
    monkeypatch.setattr("embedway.cli.selftest.from_base64", lambda text: b"")
    assert await find_faults(Broken("none")) == ["base64 does not give the same numbers back"]
