"""What three times too many requests do to a gateway on one core.

    .venv/bin/python bench/overload.py             # --json prints JSON in place of the table

First callers who each wait for their answer find the most that the gateway answers in a second.
Then three times as many requests come, whether or not the ones before were answered; what is
answered with 200 is the goodput, what is refused with 503 should be refused at once. Afterwards
half of the peak comes, and it is told how soon nothing is refused or late any more. At last the
peak is looked for again: machines change their speed, and the goodput is told as a share of the
mean of both.

The gateway has one core, its cache is off and every text is new; the callers and the fake provider
share the other core, which must be idle otherwise: `offered` says whether they kept up.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from load import DIMENSIONS, PROVIDER, Result, ask, exchange, report, spawn

LATENCY_S = 0.05
CALLERS = (16, 32, 128, 512)
"""How many wait for an answer at a time: the peak is the best of these."""
WARM_S, PEAK_S, AFTER_S = 2.0, 4.0, 15.0
CONNECTIONS = 6_000
"""More than are ever in flight: a caller who waits for a connection would spare the gateway."""
SETTLE_S = 2.0
DRAIN_S = 30.0
TICK_S = 0.002
GOOD_S = 1.0
"""An answer that takes longer after the overload is not normal yet."""
CONFIG = """
[providers.fake]
kind = "openai-compatible"
private = true
base_url = "http://127.0.0.1:{port}/v1"
models = {{ "bench/overload" = "fake" }}
[models."bench/overload"]
dimensions = {dimensions}
[local]
enabled = false
[cache]
enabled = false
[server]
max_requests_in_flight = {in_flight}
head_timeout_s = 120
"""


class Answer(NamedTuple):
    """One request's end."""

    status: int
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


class Connection(asyncio.Protocol):
    """Sends a request when told, and notes what becomes of it."""

    def __init__(self, free: list[Connection], answers: list[Answer]) -> None:
        self.free, self.answers = free, answers
        self.status = self.left = 0
        self.head = b""
        self.started = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is ready."""
        self.transport: Any = transport
        self.free.append(self)

    def send(self, request: bytes) -> None:
        """One request."""
        self.started = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        if not self.left:
            self.head += data
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.status = int(head[9:12])
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self.left, self.head, data = int(length), b"", rest
        self.left -= len(data)
        if not self.left:
            self._end(self.status)
            self.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Broken: told as status 0 if an answer was owed."""
        if self in self.free:
            self.free.remove(self)
        elif self.started:
            self._end(0)

    def _end(self, status: int) -> None:
        self.answers.append(Answer(status, self.started, time.perf_counter()))


class Load:
    """An open loop: requests come at their times, whatever became of the ones before."""

    def __init__(self, port: int, texts: Iterator[bytes]) -> None:
        self.port, self.texts = port, texts
        self.free: list[Connection] = []
        self.answers: list[Answer] = []
        self.sent = 0

    async def offer(self, rate: float, seconds: float) -> None:
        """Send *rate* requests a second, as long as there is a connection that is free."""
        started, before = time.perf_counter(), self.sent
        while (passed := time.perf_counter() - started) < seconds:
            while self.sent - before < int(rate * passed):
                if not self.free:
                    break
                self.free.pop().send(next(self.texts))
                self.sent += 1
            await asyncio.sleep(TICK_S)

    async def drain(self) -> None:
        """Until all are answered, or for long."""
        end = time.perf_counter() + DRAIN_S
        while len(self.answers) < self.sent and time.perf_counter() < end:  # noqa: ASYNC110
            await asyncio.sleep(TICK_S)

    async def open(self, connections: int) -> None:
        """Have so many connections ready: who must connect first would not come at his time."""
        loop = asyncio.get_running_loop()
        for start in range(0, connections, 64):
            made = [
                loop.create_connection(
                    lambda: Connection(self.free, self.answers), "127.0.0.1", self.port
                )
                for _ in range(min(64, connections - start))
            ]
            await asyncio.gather(*made)
        await asyncio.sleep(SETTLE_S)  # the gateway accepts some of them later than the system does


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1, help="texts in each request")
    parser.add_argument("--factor", type=float, default=3.0, help="offered, in peaks")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long")
    parser.add_argument("--in-flight", type=int, default=4096, help="server.max_requests_in_flight")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    gateway_core, own_core = cores[0], cores[-1]
    os.sched_setaffinity(0, {own_core})
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = PROVIDER.format(latency_s=LATENCY_S, slots=100_000)
        _, port = stack.enter_context(spawn(["-c", provider], own_core))
        config = home / "embedway.toml"
        config.write_text(
            CONFIG.format(port=port, dimensions=DIMENSIONS, in_flight=options.in_flight)
        )
        command = ["-m", "embedway", "serve", "--port", "0", "--config", str(config), "--json"]
        gateway, port = stack.enter_context(spawn(command, gateway_core, home))
        report(measure(port, gateway.pid, options), as_json=options.json)


def measure(port: int, pid: int, options: argparse.Namespace) -> list[Result]:
    """The peak, the overload, and what comes after it."""
    texts = requests(options.inputs)
    peak_rate(port, texts, CALLERS[1], WARM_S)
    peak = find_peak(port, texts)
    before_mb = resident_mb(pid)

    load = Load(port, texts)

    async def overload() -> tuple[float, int, float]:
        await load.open(CONNECTIONS)
        cpu_s = cpu_seconds(pid)
        await load.offer(options.factor * peak, options.seconds)
        ended, sent = time.perf_counter(), load.sent
        busy = (cpu_seconds(pid) - cpu_s) / options.seconds
        await load.offer(0.5 * peak, AFTER_S)
        await load.drain()
        return ended, sent, busy

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended, sent, busy = runner.run(overload())
    after_mb, again = resident_mb(pid), find_peak(port, texts)
    return [
        Result("peak", peak, "req/s"),
        Result("peak, found again at the end", again, "req/s"),
        Result("offered, in peaks", sent / options.seconds / peak, least=0.95 * options.factor),
        Result("the gateway's core was busy", 100 * busy, "%", least=95),
        *told_overload(
            (peak + again) / 2,
            options.seconds,
            ended,
            [one for one in load.answers if one.started < ended],
        ),
        Result("never answered", load.sent - len(load.answers), most=0),
        *told_after(ended, [one for one in load.answers if one.started >= ended]),
        Result("resident memory before", before_mb, "MB"),
        Result("resident memory after", after_mb, "MB"),
    ]


def told_overload(
    peak: float, seconds: float, ended: float, answers: Sequence[Answer]
) -> list[Result]:
    """What became of too many. The time in which the queues fill counts."""
    good = [one.seconds for one in answers if one.status == 200]
    refused = [one.seconds for one in answers if one.status == 503]
    others = Counter(one.status for one in answers if one.status not in (200, 503))
    in_time = [one for one in answers if one.status == 200 and one.ended <= ended]
    goodput = len(in_time) / seconds
    return [
        Result("goodput", goodput, "req/s"),
        Result("goodput, of the peak", 100 * goodput / peak, "%", least=90),
        Result("answered, p50", 1000 * percentile(good, 50), "ms"),
        Result("answered, p99", 1000 * percentile(good, 99), "ms"),
        Result("refused", len(refused) / seconds, "req/s"),
        Result("refused, p50", 1000 * percentile(refused, 50), "ms"),
        Result("refused, p99", 1000 * percentile(refused, 99), "ms", most=50),
        Result("neither answered nor refused", sum(others.values()), most=0),
        *(Result(f"  status {status}", count) for status, count in others.items()),
    ]


def told_after(ended: float, after: Sequence[Answer]) -> list[Result]:
    """How soon all is as before."""
    bad = [one.started - ended for one in after if one.status != 200 or one.seconds > GOOD_S]
    late = [one for one in after if one.started - ended > 10]
    failed = sum(one.status != 200 for one in late)
    return [
        Result("normal after", max([0.0, *bad]), "s", most=10),
        Result("errors 10 s after", 100 * failed / max(1, len(late)), "%", most=0.1),
        Result("answered then, p50", 1000 * percentile([one.seconds for one in late], 50), "ms"),
    ]


def find_peak(port: int, texts: Iterator[bytes]) -> float:
    """The most answers in a second."""
    return max(peak_rate(port, texts, callers, PEAK_S) for callers in CALLERS)


def peak_rate(port: int, texts: Iterator[bytes], callers: int, seconds: float) -> float:
    """Answers a second to so many callers who wait for theirs."""

    def until_the_end() -> Iterator[bytes]:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            yield next(texts)

    took, latencies = exchange(port, until_the_end(), callers)
    return len(latencies) / took


def requests(inputs: int) -> Iterator[bytes]:
    """Requests for new texts, for ever."""
    mark = "000000000000"
    template = ask(
        "bench/overload", [f"{mark} lorem ipsum dolor sit amet {i}" for i in range(inputs)]
    )
    number = 0
    while True:
        number += 1
        yield template.replace(mark.encode(), b"%012d" % number)


def percentile(values: Sequence[float], share: int) -> float:
    """0 of none."""
    if len(values) < 2:
        return sum(values)
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def cpu_seconds(pid: int) -> float:
    """What a process has spent so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
