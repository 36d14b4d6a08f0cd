from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

from embedway.cli.selftest import GOLDEN
from embedway.errors import UpstreamRateLimited
from embedway.vectors import as_array
from tests.cli.running import Run, install
from tests.fakes import ScriptedEmbedder, make_request, make_vector, respond

BEACH = "Sunny day at the beach"


def vectors(out: str) -> list[list[float]]:
    """The JSON arrays printed."""
    return [json.loads(line) for line in out.splitlines()]


def test_a_first_vector(run: Run) -> None:
    """The real model gives a person one line about the vector."""
    ended = run("embed", BEACH, terminal=True)
    assert ended.code == 0
    assert re.fullmatch(
        r"local/wordllama-256  256 dims  [0-9.e+]+ ms  \$0   "
        r"\[0\.0032, 0\.0186, -0\.0031, 0\.0633, … \]   \(‖v‖=1\.000\)\n",
        ended.out,
    )


def test_all_numbers_on_a_pipe(run: Run) -> None:
    """On a pipe each text is one JSON array of all its numbers."""
    (vector,) = vectors(run("embed", BEACH).out)
    assert len(vector) == 256
    assert vector[:4] == pytest.approx(GOLDEN[BEACH], abs=1e-6)
    assert math.hypot(*vector) == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "terminal", "is_json"),
    [
        ((), True, False),
        ((), False, True),
        (("--json",), True, True),
        (("--format", "json"), True, True),
        (("--format", "text"), False, False),
    ],
)
def test_the_form(
    run: Run, model: ScriptedEmbedder, words: tuple[str, ...], terminal: bool, is_json: bool
) -> None:
    """A person gets text and a pipe gets JSON, unless told otherwise."""
    assert run("embed", "a", *words, terminal=terminal).out.startswith("[") is is_json


def test_options_reach_the_gateway(run: Run, model: ScriptedEmbedder) -> None:
    """Model, dimensions and input type are asked for as given, wherever the options stand."""
    ended = run("embed", "a", "-d", "64", "b", "-m", "wordllama-256", "--input-type", "query", "c")
    (request,) = model.requests
    assert request.inputs == ("a", "b", "c")
    assert request.params.model == "local/wordllama-256"
    assert (request.params.dimensions, request.params.input_type) == (64, "query")
    expected = [make_vector(text, request.params) for text in "abc"]
    printed = np.array(vectors(ended.out), np.float32)
    assert np.array_equal(printed, [as_array(vector) for vector in expected])


def test_order_and_repetitions(run: Run, model: ScriptedEmbedder) -> None:
    """Every text gets its line in order, and a repeated one is asked for once."""
    ended = run("embed", *"abca", "--batch-inputs", "2", "--concurrency", "1")
    assert [request.inputs for request in model.requests] == [("a", "b"), ("c",)]
    printed = vectors(ended.out)
    assert printed[0] == printed[3]
    assert len({tuple(vector) for vector in printed}) == 3


def test_cost_and_repetition_in_text(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paid text shows its cost; its repetition in a later request costs nothing."""
    paid = ScriptedEmbedder(lambda request: respond(request, dimensions=256, cost=120_000))
    install(paid, monkeypatch)
    lines = run("embed", *["a"] * 4096, "a", terminal=True).out.splitlines()
    assert "  $0.00000012   [" in lines[0]
    assert "  $0   [" in lines[-1]


def test_blank_lines_are_told(run: Run, model: ScriptedEmbedder) -> None:
    """Blank lines of standard input are passed over, and counted."""
    ended = run("embed", stdin=b"a\n\n \nb\n")
    assert len(vectors(ended.out)) == 2
    assert ended.err == "embedway: 2 blank lines or files skipped\n"


def test_stdin_whole(run: Run, model: ScriptedEmbedder) -> None:
    """With --whole standard input is one text."""
    run("embed", "--whole", stdin=b"a\nb\n")
    assert model.requests[0].inputs == ("a\nb\n",)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "nothing to embed: the input is empty"),
        (("a", "-d", "100"), 1, "gives vectors of 64, 128 or 256 dimensions, not 100."),
        (("a", "-d", "0"), 2, "'0' is no whole number above 0"),
        (("a", "--concurrency", "٣"), 2, "'٣' is no whole number above 0"),
        (("a", "-m", "nix"), 1, "The model 'nix' does not exist."),
        (("a", "-m", "openai/text-embedding-3-small"), 1, "Set OPENAI_API_KEY"),
        (("a", "--restart"), 2, "--restart is about the file of -o, which is missing"),
        (("a", "-o", "a.npy", "--format", "json"), 2, "--format is for the terminal"),
        (("a", "-o", "a.xlsx"), 2, "-o a.xlsx: must end with .jsonl, .npy, .parquet"),
        (("a", "-o", "no/a.npy"), 2, "-o no/a.npy: there is no folder"),
        (("-o", "a.npy"), 2, "nothing to embed: the input is empty"),
    ],
)
def test_wrong_usage(
    run: Run, model: ScriptedEmbedder, words: tuple[str, ...], code: int, told: str
) -> None:
    """What cannot work is refused in one line before anything is embedded."""
    ended = run("embed", *words)
    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert model.requests == []


def test_a_person_is_not_waited_for(run: Run, model: ScriptedEmbedder) -> None:
    """Without anything to embed on a terminal, the command says so instead of reading."""
    ended = run("embed", terminal=True)
    assert (ended.code, ended.out) == (2, "")
    assert "give a text or a file, or pipe texts in" in ended.err


def test_no_stdin_at_all(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard input is told the same."""
    from embedway.cli import main

    monkeypatch.setattr("sys.stdin", None)
    assert main(["embed"]) == 2


def test_a_failed_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a provider is one line and exit code 1."""
    error = UpstreamRateLimited("openai: too many requests", provider="openai")
    install(ScriptedEmbedder([error]), monkeypatch)
    ended = run("embed", "a")
    assert (ended.code, ended.out, ended.err) == (1, "", "embedway: openai: too many requests\n")


def test_a_text_that_is_too_long(run: Run) -> None:
    """The real model's refusal names the text on the command line's terms."""
    ended = run("embed", "short", "-", stdin=b"word " * 70_000)
    assert ended.code == 1
    assert ended.err.startswith("embedway: standard input, line 1 has 7")
    assert "takes at most 65536 tokens" in ended.err


def test_remote_models_get_more_requests_in_flight(
    run: Run, model: ScriptedEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider far away is asked eight times at once, the local model twice."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    seen = []

    async def remember(*arguments: Any) -> None:
        seen.append(arguments[3])

    monkeypatch.setattr("embedway.cli.job.fill", remember)
    for words in (
        ("a",),
        ("a", "-m", "openai/text-embedding-3-small"),
        ("a", "--concurrency", "3"),
    ):
        run("embed", *words)
    assert [(limits.inputs, limits.requests) for limits in seen] == [(256, 2), (256, 8), (256, 3)]


def test_the_real_gateway_to_a_file(run: Run, work: object) -> None:
    """The real model fills a file with what it prints for the same texts."""
    printed = vectors(run("embed", *"abc", "-d", "64").out)
    assert run("embed", *"abc", "-d", "64", "-o", "a.npy").code == 0
    assert np.array_equal(np.load(work / "a.npy"), np.array(printed, np.float32))


def test_the_request_is_the_open_callers(run: Run, model: ScriptedEmbedder) -> None:
    """The command line acts as the loopback caller, with a deadline."""
    run("embed", "a")
    call = model.requests[0].call
    assert call.grant.is_admin
    assert call.deadline == 1060.0
    assert make_request().call.id != call.id
