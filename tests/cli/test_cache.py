from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from embedway.cached import Cached, Label, Selection
from embedway.cli import cache_store, cache_texts, cache_warm
from embedway.clock import SystemClock
from embedway.runtime import open_runtime
from embedway.store.vectors import SqliteVectors
from embedway.vector_files import Entry
from embedway.vectors import from_numbers
from tests.asgi import bearer, embed, running
from tests.cli.running import Run
from tests.fakes import FakeClock, ScriptedSend
from tests.memory_store import MemoryStore
from tests.server.provider import answer, failure
from tests.server.provider import settings as provider_settings

SMALL, LARGE = "openai/text-embedding-3-small", "openai/text-embedding-3-large"
LABELS = (
    Label(SMALL, f"{SMALL}@2", "default"),
    Label(SMALL, f"{SMALL}@3", "default"),
    Label(LARGE, f"{LARGE}@2", "team-a"),
    Label("rack/own", "rack/own@2+query", "*"),
)
FORMATS = ("jsonl", "parquet", "npy")
KEPT_S = 30 * 86_400  # the default of cache.ttl_s


def make_entry(number: int, label: Label = LABELS[0], age_s: int = 100) -> Entry:
    """A vector that no other number has, of the width that its space says."""
    width = int(label.space.partition("@")[2][0])
    vector = from_numbers(np.random.default_rng(number).standard_normal(width))
    cached = Cached(
        vector=vector,
        tokens=number,
        origin=number.to_bytes(8, "little"),
        created_s=int(SystemClock().now()) - age_s,
        is_estimated=number % 2 == 0,
        is_truncated=number % 3 == 0,
    )
    return number.to_bytes(16, "big"), label, cached


ENTRIES = tuple(make_entry(number, LABELS[number % 4]) for number in range(40))
ONE_SPACE = tuple(entry for entry in ENTRIES if entry[1] == LABELS[0])


async def _opened(home: Path, work: Any) -> Any:
    store = SqliteVectors(
        home / "vectors.db",
        max_bytes=2**30,
        ttl_s=0.0,
        clock=FakeClock(),
        count=lambda event, count: None,
    )
    try:
        return await work(store)
    finally:
        await store.close()


def keep(home: Path, entries: Iterable[Entry]) -> None:
    """Put them into the store."""

    async def work(store: SqliteVectors) -> None:
        for key, label, cached in entries:
            store.put_many(label, [(key, cached)])
        await store.flush()

    asyncio.run(_opened(home, work))


def kept(home: Path) -> set[Entry]:
    """All that the store has."""

    async def work(store: SqliteVectors) -> set[Entry]:
        return {entry async for entry in store.entries(Selection())}

    found: set[Entry] = asyncio.run(_opened(home, work))
    return found


@pytest.fixture
def full(home: Path) -> Path:
    """The home of a store with forty vectors under four labels."""
    keep(home, ENTRIES)
    return home


def test_stats(run: Run, full: Path) -> None:
    """The table says where vectors are kept, how many, and for whom; JSON says the same."""
    record = json.loads(run("cache", "stats", "--json").out)
    groups = {(g["model"], g["space"], g["project"]): g["vectors"] for g in record["groups"]}
    assert groups == {(label.model, label.space, label.project): 10 for label in LABELS}
    assert (record["store"], record["vectors"]) == ("file", 40)
    assert record["path"] == str(full / "vectors.db")
    assert record["bytes"] == sum(group["bytes"] for group in record["groups"]) > 40 * 8
    assert record["max_bytes"] == 2 * 2**30
    lines = run("cache", "stats").out.splitlines()
    assert lines[0].startswith(f"{full / 'vectors.db'}: 40 vectors, ")
    assert lines[0].endswith(" of at most 2.1 GB")
    assert lines[1].split() == ["MODEL", "SPACE", "PROJECT", "VECTORS", "SIZE"]
    assert len(lines) == 6


def test_stats_of_nothing(run: Run) -> None:
    """An empty store is no error."""
    assert ": 0 vectors, 0 bytes of at most" in run("cache", "stats").out
    assert json.loads(run("cache", "stats", "--json").out)["groups"] == []


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        (("EMBEDWAY_CACHE_ENABLED", "false"), "cache.enabled is false"),
        (("EMBEDWAY_CACHE_DISK_BYTES", "0"), "cache.disk_bytes is 0"),
    ],
)
def test_no_store(
    run: Run, variable: tuple[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the settings want no store, that is said; what needs one fails."""
    monkeypatch.setenv(*variable)
    stats = run("cache", "stats")
    assert (stats.code, stats.out.endswith(f"memory: {told}\n")) == (0, True)
    assert json.loads(run("cache", "stats", "--json").out)["store"] is None
    Path("a.txt").write_text("a text\n")
    for words in (
        ("purge", "--all"),
        ("export", "out.jsonl"),
        ("warm", "a.txt", "--model", "wordllama-256"),
    ):
        ended = run("cache", *words)
        assert (ended.code, told in ended.err) == (1, True), words


def test_stats_of_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where vectors are in Redis that is said, but not at which address, which may hold a
    password."""
    store = MemoryStore(FakeClock())
    store.kept = {key: (label, cached) for key, label, cached in ENTRIES}
    monkeypatch.setenv("EMBEDWAY_REDIS_URL", "redis://:hunter2@example.com:1234/0")
    monkeypatch.setattr(cache_store, "open_vector_store", lambda *_: store)
    shown, record = run("cache", "stats"), run("cache", "stats", "--json")
    assert shown.out.startswith("Redis: 40 vectors, ")
    found = json.loads(record.out)
    assert (found["store"], found["path"], found["max_bytes"]) == ("redis", None, None)
    assert "hunter2" not in shown.out + shown.err + record.out + record.err
    assert store.is_closed


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("--model", SMALL), 20),
        (("--model", "text-embedding-3-small"), 20),
        (("--model", "mine"), 30),
        (("--model", "rack/own"), 30),
        (("--model", "nobody/knows"), 40),
        (("--space", LABELS[1].space), 30),
        (("--project", "*"), 30),
        (("--project", "default"), 20),
        (("--model", SMALL, "--space", LABELS[0].space), 30),
        (("--model", SMALL, "--project", "team-a"), 40),
        (("--all",), 0),
    ],
)
def test_purge(run: Run, full: Path, work: Path, words: tuple[str, ...], left: int) -> None:
    """What is meant is gone and counted, the rest stays; a model goes by any of its names, and by
    one that is known in the store only."""
    (work / "embedway.toml").write_text(f'[models."mine"]\nmodel = "{LARGE}"\n')
    assert json.loads(run("cache", "purge", *words, "--json").out) == {"deleted": 40 - left}
    assert len(kept(full)) == left
    assert run("cache", "purge", *words).out.startswith("deleted 0 vectors;")


def test_purge_is_heard_of(run: Run, full: Path) -> None:
    """A gateway on the same store hears of a purge of the command line."""

    async def begin(store: SqliteVectors) -> int:
        return (await store.purged_since(-1))[0]

    mark = asyncio.run(_opened(full, begin))
    run("cache", "purge", "--project", "team-a")

    async def end(store: SqliteVectors) -> list[Selection]:
        return (await store.purged_since(mark))[1]

    assert asyncio.run(_opened(full, end)) == [Selection(project="team-a")]


@pytest.mark.parametrize("words", [(), ("--all", "--model", SMALL)])
def test_purge_of_what(run: Run, full: Path, words: tuple[str, ...]) -> None:
    """Nothing is purged by a command that does not say clearly what."""
    ended = run("cache", "purge", *words)
    assert (ended.code, "Give --model, --space or --project" in ended.err) == (2, True)
    assert len(kept(full)) == 40


@pytest.mark.parametrize("form", FORMATS)
def test_round_trip(run: Run, home: Path, work: Path, form: str) -> None:
    """Exported, purged and read back, all vectors are what they were, bit for bit, with key,
    label, age and flags; and so is a second export of them."""
    entries = ONE_SPACE if form == "npy" else ENTRIES
    keep(home, entries)
    exported = run("cache", "export", f"out.{form}")
    assert (exported.code, exported.out) == (0, "")
    assert exported.err == f"out.{form}: {len(entries)} vectors\n"
    run("cache", "purge", "--all")
    assert kept(home) == set()
    warmed = run("cache", "warm", f"out.{form}")
    assert (warmed.code, warmed.err) == (0, f"out.{form}: {len(entries)} vectors stored\n")
    assert kept(home) == set(entries)
    run("cache", "export", "again.jsonl")
    lines = (work / "again.jsonl").read_bytes().splitlines()
    assert {line["key"] for line in map(orjson.loads, lines)} == {k.hex() for k, _, _ in entries}


def test_the_same_rows(run: Run, full: Path, work: Path) -> None:
    """An export of what was imported has the rows of the first one."""
    run("cache", "export", "one.jsonl")
    run("cache", "purge", "--all")
    run("cache", "warm", "one.jsonl")
    run("cache", "export", "two.jsonl")
    one, two = ((work / name).read_bytes().splitlines() for name in ("one.jsonl", "two.jsonl"))
    assert sorted(one) == sorted(two)


def test_exported_parquet(run: Run, full: Path, work: Path) -> None:
    """Other programs read the columns of an export without us."""
    import pyarrow.parquet

    run("cache", "export", "out.bin", "--format", "parquet", "--project", "team-a")
    table = pyarrow.parquet.read_table(work / "out.bin")
    assert table.column_names == [
        "key", "model", "space", "project", "dimensions", "tokens", "created_s", "origin",
        "flags", "check", "vector",
    ]  # fmt: skip
    assert str(table.schema.field("vector").type) == "list<element: float>"
    assert set(table.column("model").to_pylist()) == {LARGE}
    assert set(table.column("dimensions").to_pylist()) == {2}
    run("cache", "purge", "--all")
    assert run("cache", "warm", "out.bin").err == "out.bin: 10 vectors stored\n"


def test_exported_npy(run: Run, full: Path, work: Path) -> None:
    """numpy loads the matrix of an export, and the lines beside it are in the order of its rows."""
    run("cache", "export", "out.npy", "--space", LABELS[0].space)
    matrix = np.load(work / "out.npy")
    lines = [orjson.loads(line) for line in (work / "out.npy.jsonl").read_bytes().splitlines()]
    vectors = {key.hex(): cached.vector for key, _, cached in ONE_SPACE}
    assert (matrix.dtype, matrix.shape) == (np.float32, (10, 2))
    assert [row.tobytes() for row in matrix] == [vectors[line["key"]] for line in lines]
    assert all("vector" not in line for line in lines)


def test_a_matrix_is_of_one_space(run: Run, full: Path, work: Path) -> None:
    """A matrix never mixes spaces; the error names those there are."""
    ended = run("cache", "export", "out.npy", "--model", SMALL)
    assert ended.code == 2
    assert f"{LABELS[0].space}, {LABELS[1].space}" in ended.err
    assert LARGE not in ended.err
    assert list(work.iterdir()) == []


def test_only_the_owner_reads_an_export(run: Run, full: Path, work: Path) -> None:
    """Vectors tell much of their texts, so that others may not read the file."""
    run("cache", "export", "out.npy", "--space", LABELS[0].space)
    assert {path.stat().st_mode & 0o777 for path in work.iterdir()} == {0o600}
    assert len(list(work.iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("out.txt",), 2, "must end with .jsonl, .parquet, .npy, or give --format"),
        (("nowhere/out.jsonl",), 2, "there is no folder"),
        (("out.jsonl", "--format", "csv"), 2, "invalid choice"),
        (("out.jsonl", "--project", "nobody"), 3, "no vector is kept of what was asked for"),
    ],
)
def test_wrong_exports(
    run: Run, full: Path, work: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    """What cannot be exported is said, and no file is made."""
    ended = run("cache", "export", *words)
    assert (ended.code, told in ended.err) == (code, True)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_export(
    run: Run, home: Path, work: Path, form: str, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that ends half-way leaves the older file as it was, and nothing besides it."""
    keep(home, ONE_SPACE)
    (work / f"out.{form}").write_text("older")
    whole = SqliteVectors.entries

    async def broken(self: SqliteVectors, selection: Selection) -> Any:
        async for entry in whole(self, selection):
            yield entry
            raise error

    monkeypatch.setattr(SqliteVectors, "entries", broken)
    ended = run("cache", "export", f"out.{form}")
    assert ended.code == (130 if error is KeyboardInterrupt else 1)
    assert [path.name for path in work.iterdir()] == [f"out.{form}"]
    assert (work / f"out.{form}").read_text() == "older"


def spoil_jsonl(path: Path) -> None:
    """Change one number of the third row."""
    lines = path.read_bytes().splitlines()
    lines[2] = orjson.dumps({**orjson.loads(lines[2]), "tokens": 77})
    path.write_bytes(b"\n".join(lines))


def spoil_parquet(path: Path) -> None:
    """Change one number of the third row."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    tokens = table.column("tokens").to_pylist()
    tokens[2] = 77
    position = table.column_names.index("tokens")
    table = table.set_column(position, "tokens", pyarrow.array(tokens, pyarrow.int64()))
    pyarrow.parquet.write_table(table, path)


def spoil_npy(path: Path) -> None:
    """Exchange the third vector and the fourth."""
    matrix = np.load(path)
    matrix[[2, 3]] = matrix[[3, 2]]
    np.save(path, matrix)


@pytest.mark.parametrize(
    ("form", "spoil", "place"),
    [
        ("jsonl", spoil_jsonl, "out.jsonl, line 3"),
        ("parquet", spoil_parquet, "out.parquet, row 3"),
        ("npy", spoil_npy, "out.npy.jsonl, line 3"),
    ],
)
def test_a_spoilt_row(run: Run, home: Path, work: Path, form: str, spoil: Any, place: str) -> None:
    """A row that is not as it was written is named, and then none of the file is stored."""
    keep(home, ONE_SPACE)
    run("cache", "export", f"out.{form}")
    run("cache", "purge", "--all")
    spoil(work / f"out.{form}")
    ended = run("cache", "warm", f"out.{form}")
    assert ended.code == 1
    assert f"{place}: not a vector as it was exported: its check is wrong" in ended.err
    assert kept(home) == set()


def test_a_spoilt_row_far_below(run: Run, home: Path, work: Path) -> None:
    """Also where the rows before it are more than are stored at once, none is stored."""
    keep(home, [make_entry(number) for number in range(700)])
    run("cache", "export", "out.jsonl")
    run("cache", "purge", "--all")
    lines = (work / "out.jsonl").read_bytes().splitlines()
    (work / "out.jsonl").write_bytes(b"\n".join([*lines[:-1], b"{}"]))
    ended = run("cache", "warm", "out.jsonl")
    assert (ended.code, "out.jsonl, line 700: " in ended.err) == (1, True)
    assert kept(home) == set()


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_export(run: Run, home: Path, work: Path, form: str) -> None:
    """A file that lost its end is refused as a whole, unless it ends between two lines."""
    keep(home, ONE_SPACE)
    run("cache", "export", f"out.{form}")
    run("cache", "purge", "--all")
    path = work / f"out.{form}"
    path.write_bytes(path.read_bytes()[:-5])
    assert run("cache", "warm", f"out.{form}").code == 1
    assert kept(home) == set()


@pytest.mark.parametrize("rows", [9, 11])
def test_a_matrix_and_its_lines_fit(run: Run, home: Path, work: Path, rows: int) -> None:
    """A matrix with other rows than the file beside it tells of is refused."""
    keep(home, ONE_SPACE)
    run("cache", "export", "out.npy")
    run("cache", "purge", "--all")
    matrix = np.load(work / "out.npy")
    np.save(work / "out.npy", np.resize(matrix, (rows, 2)))
    ended = run("cache", "warm", "out.npy")
    assert (ended.code, "rows" in ended.err) == (1, True)
    assert kept(home) == set()


@pytest.mark.parametrize(
    "matrix", [np.ones(3, "<f4"), np.ones((1, 2)), np.array([{}, None], dtype=object)]
)
def test_other_matrices(run: Run, home: Path, work: Path, matrix: Any) -> None:
    """A .npy file that is no matrix of float32 is refused, and no object in it is ever made."""
    np.save(work / "out.npy", matrix)
    (work / "out.npy.jsonl").write_text("")
    ended = run("cache", "warm", "out.npy")
    assert (ended.code, ended.err.startswith("embedway: out.npy: not a ")) == (1, True)


def test_a_matrix_alone(run: Run, home: Path, work: Path) -> None:
    """A matrix without the file beside it tells nothing of its rows, and the missing file is
    named."""
    np.save(work / "out.npy", np.ones((1, 2), "<f4"))
    ended = run("cache", "warm", "out.npy")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "out.npy.jsonl: No such file" in ended.err


def test_without_pyarrow(run: Run, full: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package for Parquet files the command says which one to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ended = run("cache", "export", "out.parquet")
    assert (ended.code, "pip install 'embedway[parquet]'" in ended.err) == (1, True)
    assert list(work.iterdir()) == []


def test_parquet_of_texts(run: Run, work: Path, openai: ScriptedSend) -> None:
    """A Parquet file of texts is told from an export by its columns."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), work / "a.parquet")
    record = run("cache", "warm", "a.parquet", "--model", SMALL, "--json").out
    assert json.loads(record)["new"] == 2


def test_parquet_of_other_columns(run: Run, home: Path, work: Path) -> None:
    """A Parquet file that has some columns of an export but not all is refused by their names."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"key": ["0"], "check": ["0"], "vector": [[1]], "more": [1]})
    pyarrow.parquet.write_table(table, work / "out.parquet")
    ended = run("cache", "warm", "out.parquet")
    assert (ended.code, "missing or too many: created_s, dimensions" in ended.err) == (1, True)


def test_what_is_too_old_is_not_kept(run: Run, home: Path, work: Path) -> None:
    """A vector grows no younger by a detour through a file."""
    young, old = make_entry(1, age_s=KEPT_S - 100), make_entry(2, age_s=KEPT_S - 2)
    keep(home, [young, old])
    run("cache", "export", "out.jsonl")
    lines = (work / "out.jsonl").read_bytes()
    run("cache", "purge", "--all")
    (work / "embedway.toml").write_text(f"[cache]\nttl_s = {KEPT_S - 50}\n")
    (work / "out.jsonl").write_bytes(lines)
    record = json.loads(run("cache", "warm", "out.jsonl", "--json").out)
    assert record == {"stored": 1, "expired": 1, "lost": 0}
    assert {key for key, _, _ in kept(home)} == {young[0]}


def test_what_the_store_did_not_take_is_told(
    run: Run, home: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that are not in the store afterwards make the command fail and are counted."""
    keep(home, ONE_SPACE)
    run("cache", "export", "out.jsonl")
    run("cache", "purge", "--all")
    monkeypatch.setattr(SqliteVectors, "put_many", lambda *_: None)
    ended = run("cache", "warm", "out.jsonl", "--json")
    assert (ended.code, json.loads(ended.out)["lost"]) == (1, 10)
    assert "the store did not keep 10 vectors" in ended.err


@pytest.mark.parametrize(
    "option",
    [("--model", SMALL), ("--dimensions", "2"), ("--project", "team-a"), ("--column", "text")],
)
def test_options_that_an_export_has_no_use_for(
    run: Run, full: Path, option: tuple[str, str]
) -> None:
    """An export says itself what its vectors are; an option that says otherwise is refused."""
    run("cache", "export", "out.jsonl")
    ended = run("cache", "warm", "out.jsonl", *option)
    assert (ended.code, f"{option[0]} is about texts" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("none.txt", (), "none.txt: no such file"),
        ("a.txt", (), "a.txt is no export; to embed its texts, give --model"),
        ("a.bin", ("--model", SMALL), "neither an export nor a file of texts (.txt, .csv"),
        ("a.txt", ("--model", "nix"), "The model 'nix' does not exist"),
        ("a.txt", ("--model", "m", "--project", "*"), "1 to 64 of"),
        ("a.txt", ("--model", "m", "--dimensions", "0"), "no whole number above 0"),
    ],
)
def test_wrong_warmings(run: Run, work: Path, name: str, words: tuple[str, ...], told: str) -> None:
    """What cannot be kept is said."""
    for other in ("a.txt", "a.bin"):
        (work / other).write_text("a text\n")
    ended = run("cache", "warm", name, *words)
    assert (ended.code in (1, 2), told in ended.err) == (True, True), ended.err


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> ScriptedSend:
    """An account at OpenAI, in place of the transport to it."""
    send = ScriptedSend(answer)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operator-0123456789")
    monkeypatch.setattr(cache_texts, "open_runtime", partial(open_runtime, send=send))
    return send


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("texts.txt", "one\n\ntwo\none\n"),
        ("texts.jsonl", '{"text": "one"}\n{"text": "two"}\n"one"\n'),
        ("texts.csv", "id,text\n1,one\n2,two\n3,one\n"),
    ],
)
def test_warm_with_texts(
    run: Run, home: Path, work: Path, openai: ScriptedSend, name: str, content: str
) -> None:
    """Texts are embedded once, each project for itself, and known from then on."""
    (work / name).write_text(content)
    words = ("cache", "warm", name, "--model", "text-embedding-3-small", "--json")
    first = json.loads(run(*words, "--project", "team-a").out)
    assert first == {"texts": 3, "new": 2, "known": 0, "tokens": 4, "cost": "0.00000008"}
    assert {label.project for _, label, _ in kept(home)} == {"team-a"}
    assert len(kept(home)) == 2
    again = json.loads(run(*words, "--project", "team-a").out)
    assert (again["new"], again["known"], again["cost"]) == (0, 2, "0")
    other = json.loads(run(*words).out)
    assert (other["new"], other["known"]) == (2, 0)
    assert {label.project for _, label, _ in kept(home)} == {"team-a", "default"}
    assert len(openai.requests) == 2


def test_what_was_warmed_is_a_hit(run: Run, home: Path, work: Path, openai: ScriptedSend) -> None:
    """A gateway that starts after the warming answers a key of that project from the cache."""
    (work / "a.txt").write_text("one\n")
    ended = run("cache", "warm", "a.txt", "--model", SMALL, "--project", "team-a")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("a.txt: 1 texts · 1 new · 0 known · 2 tokens · $0.00000004 · ")

    async def ask() -> list[str]:
        async with running(provider_settings(home), send=openai) as app:
            mine, other = (
                bearer(app.runtime.keys.create(project, project=project)[1])
                for project in ("team-a", "team-b")
            )
            answers = [await embed(app, key, model=SMALL, input="one") for key in (mine, other)]
            return [answered.headers["cache-status"] for answered in answers]

    hit, miss = asyncio.run(ask())
    assert ("hit" in hit, "hit" in miss) == (True, False)
    assert len(openai.requests) == 2


def test_a_provider_that_fails(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose provider fails ends with its error."""
    send = ScriptedSend(failure(401))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operator-0123456789")
    monkeypatch.setattr(cache_texts, "open_runtime", partial(open_runtime, send=send))
    (work / "a.txt").write_text("one\n")
    ended = run("cache", "warm", "a.txt", "--model", SMALL)
    assert (ended.code, ended.err.count("\n")) == (1, 1)


def test_warm_with_the_local_model(run: Run, work: Path) -> None:
    """The local model's vectors are in no store, so that a file of texts is of no use to it."""
    (work / "a.txt").write_text("one\n")
    ended = run("cache", "warm", "a.txt", "--model", "wordllama-256")
    assert (ended.code, "kept in memory only" in ended.err) == (1, True)


def test_warm_for_no_key(run: Run, work: Path) -> None:
    """Where each key has vectors of its own, texts cannot be embedded for all of them."""
    (work / "a.txt").write_text("one\n")
    (work / "embedway.toml").write_text('[cache]\nscope = "key"\n')
    ended = run("cache", "warm", "a.txt", "--model", "wordllama-256")
    assert (ended.code, "of use to no key" in ended.err) == (2, True)


def test_a_damaged_store(run: Run, home: Path) -> None:
    """A store that cannot be used is one line, not a traceback."""
    home.mkdir()
    (home / "vectors.db").mkdir()
    for words in (("stats",), ("purge", "--all"), ("export", "out.jsonl")):
        ended = run("cache", *words)
        assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
        assert "vectors.db" in ended.err


def test_a_bar_on_terminals_only(run: Run, full: Path) -> None:
    """A person sees how far an export is; a pipe does not."""
    assert "%" in run("cache", "export", "out.jsonl", terminal=True).err
    assert "%" not in run("cache", "export", "out.jsonl").err
    assert "%" in run("cache", "warm", "out.jsonl", terminal=True).err


def test_a_file_that_changes_meanwhile(
    run: Run, full: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that is no longer one when it is read again is refused, not stored in part."""
    run("cache", "export", "out.jsonl")
    whole = cache_warm.open_store

    def change(*arguments: Any) -> Any:
        (work / "out.jsonl").write_text("{}\n")
        return whole(*arguments)

    monkeypatch.setattr(cache_warm, "open_store", change)
    ended = run("cache", "warm", "out.jsonl")
    assert (ended.code, "was changed while it was read" in ended.err) == (1, True)
