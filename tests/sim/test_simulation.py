"""The whole gateway, simulated: many callers, all that can go wrong, and laws that hold all the
same. `scripts/simulate` runs more seeds, or one again."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.sim.world import run_seed

ROOT = Path(__file__).parent.parent.parent
SEEDS, GROUP = 200, 10
ALWAYS_MET = (
    "cache: collapsed",
    "cache: damaged",
    "cache: dropped",
    "cache: evicted",
    "cache: hit",
    "cache: read_error",
    "call for several",
    "call: 200",
    "call: 200 garbage",
    "call: 200 nan",
    "call: 200 short",
    "call: 400",
    "call: 413",
    "call: 422",
    "call: 429 429",
    "call: 500 500",
    "call: 503 503",
    "call: cancelled",
    "call: cannot connect",
    "call: no answer in time",
    "call: the connection broke",
    "caller: answered",
    "caller: failed: invalid_parameter",
    "caller: failed: provider_invalid_response",
    "caller: failed: provider_timeout",
    "caller: failed: provider_unavailable",
    "caller: failed: rate_limit_exceeded",
    "caller: left",
    "error that names an input",
    "retry: granted",
    "retry: refused",
    "shared question",
)


@cache
def outcome(seed):
    """Report, digest and situations of a seed, which is run once for all tests."""
    run = run_seed(seed)
    return run.report, run.log.digest, run.log.met


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_laws(first):
    """With faults and without, every answer and every end is lawful, nothing is left over, and
    when the faults stop everybody is served."""
    reports = [outcome(seed)[0] for seed in range(first, first + GROUP)]

    assert not any(reports), "\n\n".join(filter(None, reports))


def test_one_seed_is_one_run():
    """The same seed gives the same events at the same times; another seed gives others."""
    digests = [outcome(seed)[1] for seed in range(5)]

    assert digests == [run_seed(seed).log.digest for seed in range(5)]
    assert len(set(digests)) == 5


def test_nothing_depends_on_the_process():
    """A run does not depend on the hashes of texts, which are others in every process."""
    code = "from tests.sim.world import run_seed; print(run_seed(3).log.digest)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert other.stdout.strip() == outcome(3)[1], other.stderr


def test_every_situation_arises():
    """The seeds come across each kind of fault, end and sharing: what never happens proves
    nothing."""
    met = Counter()
    for seed in range(50):
        met += outcome(seed)[2]

    assert [name for name in ALWAYS_MET if met[name] < 2] == []
