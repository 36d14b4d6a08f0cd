"""What joining single texts saves, in front of a provider of few slots and a fixed latency.

    .venv/bin/python bench/batch.py            # --json prints one JSON list in place of the table

The fake provider and the callers share one core, the gateway has the other; its cache is off, so
that every text is asked for. Three accounts of equal concurrency lead to the one provider:
`joined` serves a free model, whose texts may travel together; `alone` one with a price and with no
tokenizer known here, so that nobody could tell what each caller's text cost, and there is no
`Batch`; `narrow` takes 32 texts a call. All are measured in turns in one run; numbers are medians.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from load import DIMENSIONS, PROVIDER, Result, ask, exchange, report, spawn

LATENCY_S = 0.05
SLOTS = 4
CALLERS = 1000
ACCOUNT = """
[providers.{name}]
kind = "openai-compatible"
private = true
base_url = "http://127.0.0.1:{port}/v1"
models = {{ "bench/{name}" = "{name}" }}
concurrency = {slots}
max_inputs = {max_inputs}
[models."bench/{name}"]
dimensions = {dimensions}
price_usd_per_million_tokens = "{price}"
"""
ACCOUNTS = {"joined": (2048, "0"), "alone": (2048, "0.02"), "narrow": (32, "0")}


class Wave(NamedTuple):
    """What came of many callers at once, each with one text."""

    texts_per_s: float
    p50_ms: float
    p99_ms: float
    calls: int
    """How often the provider was asked."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    provide = ["-c", PROVIDER.format(latency_s=LATENCY_S, slots=SLOTS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, provider = stack.enter_context(spawn(provide, cores[-1]))
        config = write_config(folder, provider)
        serve = ["-m", "embedway", "serve", "--port", "0", "--json", "--config", str(config)]
        _, gateway = stack.enter_context(spawn(serve, cores[0], folder))
        results = Bench(provider, gateway).measure(options.rounds)
    report(results, as_json=options.json)


def write_config(folder: Path, provider: int) -> Path:
    """The gateway's settings, with the provider at that port."""
    accounts = [
        ACCOUNT.format(
            name=name,
            port=provider,
            slots=SLOTS,
            max_inputs=max_inputs,
            dimensions=DIMENSIONS,
            price=price,
        )
        for name, (max_inputs, price) in ACCOUNTS.items()
    ]
    config = folder / "embedway.toml"
    config.write_text("".join([*accounts, "[cache]\nenabled = false\n[local]\nenabled = false\n"]))
    return config


class Bench:
    """The questions, asked of the gateway and of the provider itself."""

    def __init__(self, provider: int, gateway: int) -> None:
        self.provider, self.gateway = provider, gateway
        self.texts = 0

    def measure(self, rounds: int) -> list[Result]:
        """All of it."""
        for name in ACCOUNTS:  # what is made at first use is made
            self._wave(name, 2 * SLOTS)
        alone, joined = [], []
        for _ in range(rounds):
            alone.append(self._wave("alone", CALLERS))
            joined.append(self._wave("joined", CALLERS))
        return [
            *_of_waves("each alone", alone),
            *_of_waves("joined", joined),
            Result(
                "  texts/s, joined to alone",
                _median(joined, "texts_per_s") / _median(alone, "texts_per_s"),
                least=5.0,
            ),
            *self._idle(rounds * 15),
            *self._many(rounds),
            *_of_waves(
                "all the same text",
                [self._wave("joined", CALLERS, is_same=True) for _ in range(rounds)],
                most_calls=1,
            ),
        ]

    def _wave(self, name: str, callers: int, *, is_same: bool = False) -> Wave:
        """*callers* connections, each with one new text (or all with the same one), at once."""
        texts = [f"{number} a short text" for number in range(self.texts, self.texts + callers)]
        if is_same:  # so slowly that all have asked before it is answered
            texts = [f"{self.texts} asked slowly"] * callers
        self.texts += callers
        requests = iter([ask(f"bench/{name}", text) for text in texts])
        self._tally()
        took, latencies = exchange(self.gateway, requests, callers)
        p50, p99 = statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]
        return Wave(callers / took, p50 * 1000, p99 * 1000, self._tally())

    def _idle(self, rounds: int) -> list[Result]:
        """One text with nobody else there, in turns through the gateway and past it."""
        ways = ("provider", "joined", "alone")
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in ways:
                port = self.provider if way == "provider" else self.gateway
                request = ask(f"bench/{way}", f"{number} asked while nothing else is")
                # The second of two: the connection is there, the code is warm.
                taken[way].append(exchange(port, iter([request] * 2), 1)[1][1])
        base, joined, alone = (statistics.median(taken[way]) * 1000 for way in ways)
        return [
            Result("one text at an idle model: provider alone, p50", base, "ms"),
            Result("  added by the gateway, with Batch", joined - base, "ms", most=2.0),
            Result("  added by the gateway, without", alone - base, "ms"),
        ]

    def _many(self, rounds: int) -> list[Result]:
        """2,048 texts at once for a provider that takes 32 in a call."""
        taken, calls = [], 0
        for _ in range(rounds):
            texts = [f"{self.texts + number} one of many" for number in range(2048)]
            self.texts += len(texts)
            self._tally()
            taken.append(exchange(self.gateway, iter([ask("bench/narrow", texts)]), 1)[0])
            calls = max(calls, self._tally())
        took, least = statistics.median(taken), 2048 / 32 / SLOTS * LATENCY_S
        return [
            Result("2,048 texts, 32 to a call: calls", calls, most=64),
            Result("  time", took, "s"),
            Result("  time to the least the slots allow", took / least, most=1.5),
        ]

    def _tally(self) -> int:
        """Calls of the provider since this was asked last."""
        connection = http.client.HTTPConnection("127.0.0.1", self.provider)
        connection.request("GET", "/tally")
        calls = int(connection.getresponse().read())
        connection.close()
        return calls


def _of_waves(what: str, waves: Sequence[Wave], most_calls: int | None = None) -> list[Result]:
    return [
        Result(
            f"{CALLERS:,} callers at once, {what}: calls", _median(waves, "calls"), most=most_calls
        ),
        Result("  texts/s", _median(waves, "texts_per_s")),
        Result("  p50", _median(waves, "p50_ms"), "ms"),
        Result("  p99", _median(waves, "p99_ms"), "ms"),
    ]


def _median(waves: Sequence[Wave], name: str) -> float:
    return statistics.median(getattr(wave, name) for wave in waves)


if __name__ == "__main__":
    main()
