from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from embedway.cli.manifest import read_manifest
from embedway.errors import UpstreamRateLimited
from embedway.vectors import as_array
from tests.cli.running import Run, install
from tests.fakes import ScriptedEmbedder, make_vector

OUTPUTS = ["out.jsonl", "out.npy", "out.parquet"]
LIMITED = UpstreamRateLimited("openai: too many requests", provider="openai")


def numbers(path: Path) -> list[list[float]]:
    """The vectors of an output, read with other code than ours."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line)["embedding"] for line in path.read_text().splitlines()]
        return np.array(rows, np.float32).tolist()
    if path.suffix == ".npy":
        return np.load(path).tolist()
    return pyarrow.parquet.read_table(path)["embedding"].to_pylist()


def expected(model: ScriptedEmbedder, *texts: str) -> list[list[float]]:
    """What the scripted model gives for them."""
    params = model.requests[0].params
    return [as_array(make_vector(text, params, 256)).tolist() for text in texts]


def asked(model: ScriptedEmbedder) -> list[str]:
    """All texts that were asked for."""
    return [str(text) for request in model.requests for text in request.inputs]


def write(path: Path, *texts: str) -> str:
    """A .txt file of these texts; its name."""
    path.write_text("".join(f"{text}\n" for text in texts))
    return path.name


def leftovers(work: Path) -> set[str]:
    """Files that should be gone after a finished run."""
    return {path.name for path in work.iterdir() if path.suffix in (".partial", ".writing")}


@pytest.mark.parametrize("out", OUTPUTS)
def test_rows_keep_their_order(run: Run, model: ScriptedEmbedder, work: Path, out: str) -> None:
    """Every row has its own vector, exactly, repeated texts too."""
    name = write(work / "in.txt", *"abacb")
    ended = run("embed", name, "-o", out, "--batch-inputs", "2")
    assert (ended.code, ended.out) == (0, "")
    assert numbers(work / out) == expected(model, *"abacb")
    assert sorted(asked(model)) == ["a", "b", "c"]
    assert leftovers(work) == set()
    assert ended.err.startswith(
        f"{out}: 5 texts (2 repeated) · 3 new · 0 skipped · 9 tokens · $0 · "
    )


def test_jsonl_rows(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """A row of .jsonl is id, if it has one, text and embedding."""
    (work / "in.jsonl").write_text('{"id": 7, "text": "a"}\n{"text": "ä\\n"}\n')
    run("embed", "in.jsonl", "-o", "out.jsonl")
    rows = [json.loads(line) for line in (work / "out.jsonl").read_text().splitlines()]
    assert [list(row) for row in rows] == [["id", "text", "embedding"], ["text", "embedding"]]
    assert (rows[0]["id"], rows[1]["text"]) == (7, "ä\n")


@pytest.mark.parametrize(
    ("ids", "kind", "values"),
    [
        ("7, 8", pyarrow.int64(), [7, 8]),
        ('7, "x"', pyarrow.string(), ["7", "x"]),
        ("7, null", pyarrow.int64(), [7, None]),
        (f"7, {2**63}", pyarrow.string(), ["7", str(2**63)]),
    ],
)
def test_parquet_ids(
    run: Run, model: ScriptedEmbedder, work: Path, ids: str, kind: Any, values: list[object]
) -> None:
    """Ids stay whole numbers where all are; else they are texts."""
    lines = [f'{{"id": {one}, "text": "a"}}\n' for one in ids.split(", ")]
    (work / "in.jsonl").write_text("".join(lines))
    assert run("embed", "in.jsonl", "-o", "out.parquet").code == 0
    table = pyarrow.parquet.read_table(work / "out.parquet")
    assert table.column_names == ["id", "text", "embedding"]
    assert table["id"].type == kind
    assert table["id"].to_pylist() == values


def test_parquet_schema(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """Vectors are lists of one size of float32, and the file says whose they are."""
    run("embed", "a", "-o", "out.parquet", "-d", "64")
    schema = pyarrow.parquet.read_schema(work / "out.parquet")
    assert schema.names == ["text", "embedding"]
    assert schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 64)
    assert schema.metadata[b"embedway"] == b"local/wordllama-256, 64 dimensions"


def test_npy(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """The array is float32 of shape (rows, dimensions)."""
    run("embed", *"abc", "-o", "out.npy")
    array = np.load(work / "out.npy")
    assert (array.shape, array.dtype) == ((3, 256), np.float32)


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_second_run_does_nothing(run: Run, model: ScriptedEmbedder, work: Path, out: str) -> None:
    """What is done is not asked for again, and the file is not written again."""
    run("embed", *"abc", "-o", out)
    before, count = (work / out).stat().st_mtime_ns, len(model.requests)
    ended = run("embed", *"abc", "-o", out, "--json")
    record = json.loads(ended.out)
    assert (record["new"], record["skipped"], record["texts"]) == (0, 3, 3)
    assert len(model.requests) == count
    assert (work / out).stat().st_mtime_ns == before


@pytest.mark.parametrize("out", OUTPUTS)
def test_appended_inputs(run: Run, model: ScriptedEmbedder, work: Path, out: str) -> None:
    """Texts that the output has are taken from it; new and reordered ones come right."""
    run("embed", *"abc", "-o", out)
    ended = run("embed", *"dcab", "-o", out, "--json")
    assert asked(model) == ["a", "b", "c", "d"]
    assert numbers(work / out) == expected(model, *"dcab")
    record = json.loads(ended.out)
    assert (record["new"], record["skipped"], record["unique"]) == (1, 3, 4)
    assert leftovers(work) == set()


def test_a_text_taken_away(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """The output mirrors the input: what is no longer in it goes, without a request."""
    run("embed", *"abc", "-o", "out.npy")
    run("embed", *"ca", "-o", "out.npy")
    assert len(model.requests) == 1
    assert numbers(work / "out.npy") == expected(model, *"ca")


def test_the_summary_as_json(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """A script gets all counts in one object."""
    name = write(work / "in.txt", "a", "", "a", "b")
    record = json.loads(run("embed", name, "-o", "out.npy", "--json").out)
    seconds = record.pop("seconds")
    assert 0 <= seconds < 60
    assert record == {
        "output": "out.npy",
        "model": "local/wordllama-256",
        "dimensions": 256,
        "input_type": None,
        "texts": 3,
        "unique": 2,
        "new": 2,
        "skipped": 0,
        "blank": 1,
        "tokens": 6,
        "cost": "0",
    }
    assert " · 1 blank · " in run("embed", name, "-o", "out.npy").err


@pytest.mark.parametrize("out", OUTPUTS)
def test_an_interrupted_run_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path, out: str
) -> None:
    """After an error in the middle, the second run asks for the rest only."""
    first = ScriptedEmbedder([None, LIMITED], dimensions=256)
    install(first, monkeypatch)
    words = ("embed", *"abcd", "-o", out, "--batch-inputs", "2", "--concurrency", "1")
    ended = run(*words)
    assert ended.code == 1
    assert ended.err == (
        f"embedway: vectors kept in {out}.partial: 2; run the same command again to go on\n"
        "embedway: openai: too many requests\n"
    )
    assert not (work / out).exists()
    second = ScriptedEmbedder(dimensions=256)
    install(second, monkeypatch)
    assert run(*words).code == 0
    assert asked(second) == ["c", "d"]
    assert numbers(work / out) == expected(second, *"abcd")
    assert leftovers(work) == set()


def test_an_interrupted_addition_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    """An addition that fails leaves the old output whole, and goes on from both."""
    model = ScriptedEmbedder([None, None, LIMITED], dimensions=256)
    install(model, monkeypatch)
    words = ("-o", "out.npy", "--batch-inputs", "1", "--concurrency", "1")
    run("embed", "a", *words)
    assert run("embed", *"abcd", *words).code == 1
    assert numbers(work / "out.npy") == expected(model, "a")
    assert run("embed", *"abcd", *words).code == 0
    assert asked(model) == ["a", "b", "c", "c", "d"]
    assert numbers(work / "out.npy") == expected(model, *"abcd")


def test_a_first_failure_leaves_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    """A run whose first request fails leaves no file and promises none."""
    install(ScriptedEmbedder([LIMITED]), monkeypatch)
    ended = run("embed", "a", "-o", "out.npy")
    assert (ended.code, ended.err) == (1, "embedway: openai: too many requests\n")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_crash_between_output_and_manifest(
    run: Run, model: ScriptedEmbedder, monkeypatch: pytest.MonkeyPatch, work: Path, out: str
) -> None:
    """Whenever the process ends, the next run finds every vector and gives the right file."""
    run("embed", *"ab", "-o", out)
    replace = os.replace

    def crash(source: Path, target: Path) -> None:
        if target.name.endswith(".manifest"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    ended = run("embed", *"abc", "-o", out)
    assert (ended.code, ended.err) == (1, "embedway: No space left on device\n")
    monkeypatch.setattr(os, "replace", replace)
    assert run("embed", *"abc", "-o", out).code == 0
    assert asked(model) == ["a", "b", "c"]
    assert numbers(work / out) == expected(model, *"abc")
    assert leftovers(work) == set()


@pytest.mark.parametrize("options", [("-d", "64"), ("-m", "openai/text-embedding-3-small")])
@pytest.mark.parametrize("is_finished", [True, False])
def test_another_model_is_not_mixed_in(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    options: tuple[str, ...],
    is_finished: bool,
) -> None:
    """Other vectors are refused, for a finished and for a begun output, until --restart."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    begun = ScriptedEmbedder([None, None if is_finished else LIMITED], dimensions=256)
    install(begun, monkeypatch)
    words = ("embed", *"ab", "-o", "out.jsonl", "--batch-inputs", "1", "--concurrency", "1")
    run(*words)
    model = ScriptedEmbedder(dimensions=1536)
    install(model, monkeypatch)
    ended = run(*words, *options)
    assert ended.code == 1
    assert "holds vectors of local/wordllama-256, 256 dimensions, but this run" in ended.err
    assert "Give another -o, or --restart" in ended.err
    assert model.requests == []
    assert run(*words, *options, "--restart").code == 0
    assert asked(model) == ["a", "b"]
    assert len(numbers(work / "out.jsonl")[0]) == (64 if "-d" in options else 1536)


def test_an_interrupted_restart_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    """After --restart failed, the old output is still there and the same command goes on."""
    model = ScriptedEmbedder([None, None, LIMITED], dimensions=256)
    install(model, monkeypatch)
    words = ("embed", *"ab", "-o", "out.npy", "--batch-inputs", "1", "--concurrency", "1")
    run("embed", "a", "-o", "out.npy")
    ended = run(*words, "--restart")
    assert ended.code == 1
    assert "run the same command without --restart again to go on" in ended.err
    assert numbers(work / "out.npy") == expected(model, "a")
    assert run(*words).code == 0
    assert asked(model) == ["a", "a", "b", "b"]
    assert numbers(work / "out.npy") == expected(model, *"ab")


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_changed_or_foreign_output(
    run: Run, model: ScriptedEmbedder, work: Path, is_ours: bool
) -> None:
    """A file that is not as we left it is neither trusted nor overwritten."""
    if is_ours:
        run("embed", *"ab", "-o", "out.jsonl")
        lines = (work / "out.jsonl").read_text().splitlines(keepends=True)
        (work / "out.jsonl").write_text("".join(reversed(lines)))
    else:
        (work / "out.jsonl").write_text("mine\n")
    before, count = (work / "out.jsonl").read_text(), len(model.requests)
    ended = run("embed", *"ab", "-o", "out.jsonl")
    assert ended.code == 1
    told = "was changed since" if is_ours else "is not the output of"
    assert ended.err == (
        f"embedway: out.jsonl {told} 'embedway embed'; "
        "give another -o, or --restart to replace it\n"
    )
    assert (work / "out.jsonl").read_text() == before
    assert len(model.requests) == count
    assert run("embed", *"ab", "-o", "out.jsonl", "--restart").code == 0
    assert numbers(work / "out.jsonl") == expected(model, *"ab")


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b"[]\n", b'{"kind":"embedway manifest 1"}\n', b"x" * 99]
)
def test_a_broken_manifest_is_none(work: Path, data: bytes) -> None:
    """A manifest that cannot be understood counts as missing."""
    (work / "m").write_bytes(data)
    assert read_manifest(work / "m") is None


def test_a_manifest_with_half_a_digest_is_none(
    run: Run, model: ScriptedEmbedder, work: Path
) -> None:
    """A manifest that was cut off counts as missing."""
    run("embed", *"ab", "-o", "out.npy")
    path = work / "out.npy.manifest"
    manifest = read_manifest(path)
    assert manifest is not None
    assert len(manifest.names()) == 2
    path.write_bytes(path.read_bytes()[:-1])
    assert read_manifest(path) is None


def test_the_output_is_no_input(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """An input is not overwritten by the output, however its name is written."""
    (work / "a.jsonl").write_text('"a"\n')
    ended = run("embed", "a.jsonl", "-o", f"../{work.name}/a.jsonl")
    assert ended.code == 2
    assert "is one of the inputs" in ended.err
    assert (work / "a.jsonl").read_text() == '"a"\n'


@pytest.mark.parametrize("words", [("in.parquet", "-o", "a.npy"), ("a", "-o", "a.parquet")])
def test_without_pyarrow(
    run: Run,
    model: ScriptedEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    work: Path,
    words: tuple[str, ...],
) -> None:
    """Without the extra, the one line says what to install, before anything is embedded."""
    (work / "in.parquet").write_bytes(b"PAR1")
    load = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    ended = run("embed", *words)
    assert ended.code == 1
    assert ended.err == "embedway: Parquet files need pyarrow: pip install 'embedway[parquet]'\n"
    assert model.requests == []


class Changing(ScriptedEmbedder):
    """Changes a file when it is asked."""

    def __init__(self, path: Path, change: str) -> None:
        super().__init__(dimensions=256)
        self.path = path
        self.change = change

    async def __call__(self, request: Any, /) -> Any:
        """The usual vectors."""
        self.path.write_text(self.change)
        return await super().__call__(request)


@pytest.mark.parametrize("change", ["b\na\n", "a\n"])
def test_an_input_that_changes_meanwhile(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path, change: str
) -> None:
    """Rows that are not those that were planned give no output with wrong vectors."""
    write(work / "in.txt", "a", "b")
    install(Changing(work / "in.txt", change), monkeypatch)
    ended = run("embed", "in.txt", "-o", "out.npy")
    assert ended.code == 1
    assert "the input changed while it was read; run the same command again" in ended.err
    assert not (work / "out.npy").exists()
    assert "out.npy.writing" not in leftovers(work)


def test_an_input_that_grows_meanwhile(
    run: Run, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    """Rows added while it runs wait for the next run, and are not lost then."""
    write(work / "in.txt", "a", "b")
    model = Changing(work / "in.txt", "a\nb\nc\n")
    install(model, monkeypatch)
    words = ("embed", "in.txt", "-o", "out.npy", "--batch-inputs", "1", "--concurrency", "1")
    for texts in ("ab", "abc"):
        assert run(*words).code == 0
        assert numbers(work / "out.npy") == expected(model, *texts)
    assert asked(model) == ["a", "b", "c"]


def test_progress_on_a_terminal(run: Run, model: ScriptedEmbedder, work: Path) -> None:
    """A person sees a bar while it runs, and the summary after it is gone."""
    ended = run("embed", *"abc", "-o", "out.npy", terminal=True)
    assert "\r3/3 " in ended.err
    assert "100 %" in ended.err
    assert ended.err.split("\x1b[K")[-1].startswith("out.npy: 3 texts · 3 new")
