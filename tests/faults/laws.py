"""What must be true of every answer and of all that is left behind, whatever went wrong: the one
checker that all faults share."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from embedway.gateway import Gateway
from embedway.layers.batch import Batch
from embedway.layers.coalesce import Coalesce
from embedway.server.app import App
from embedway.transport import Transport
from tests.fake_provider.bill import Line
from tests.fake_provider.exchange import KEY
from tests.fake_provider.signature import SECRET_ACCESS_KEY
from tests.fakes import until
from tests.faults.behaviours import End
from tests.faults.heard import Heard
from tests.memory_ledger import MemoryLedger
from tests.sim.leftovers import layers_of

TEXT = "quagga"
"""In every text that is embedded."""
_SECRETS = (KEY, SECRET_ACCESS_KEY, TEXT)
_SETTLED_S = 5.0
_TOLERANCE = 1e-6


class Laws:
    """`broken` has what was against the law."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def expect(self, is_kept: bool, law: str, *details: object) -> None:
        """Note the law if it is not kept."""
        if not is_kept:
            self.broken.append(f"{law}: {', '.join(map(str, details))}")

    def check_end(
        self, who: str, heard: Heard, allowed: Collection[End | None], within_s: float
    ) -> None:
        """One whole answer in time, whose status names who is to blame, and no secret in it."""
        is_whole = (heard.heads, heard.ends, heard.crash) == (1, 1, None)
        self.expect(is_whole, "one answer ends a request", who, heard)
        self.expect(heard.took_s <= within_s, "nobody is held longer than he waits", who, heard)
        told = heard.json()
        self.expect(isinstance(told, dict), "an answer is JSON", who, heard.body[:200])
        error = _error_of(told)
        found = End(heard.status, error.get("code"))
        self.expect(found in allowed, "the status names who is to blame", who, found, error)
        if heard.status != 200:
            self.check_error(who, heard, error)
        self.check_words(who, f"{heard.headers} {heard.body.decode(errors='replace')}")

    def check_error(self, who: str, heard: Heard, error: dict[str, Any]) -> None:
        """An error is plain text, holds no vector, and its caller is told not to try again at
        once: that was done here."""
        message = error.get("message", "")
        self.expect(bool(message) and message.isprintable(), "errors are plain", who, message)
        self.expect("embedding" not in _fields(heard.json()), "no vector with an error", who)
        if heard.status < 500 and heard.status != 429:
            return
        is_told = heard.headers.get("x-should-retry") == "false" or "retry-after" in heard.headers
        self.expect(is_told, "nobody else retries", who, heard.headers)

    def check_vectors(self, who: str, heard: Heard, true: Sequence[bytes]) -> None:
        """Each input has its own vector, at its own place; nothing where there is an error."""
        if heard.status != 200:
            return
        items = (heard.json() or {}).get("data", [])
        indexes = [item["index"] for item in items]
        self.expect(indexes == list(range(len(true))), "each input has one vector", who, indexes)
        for item, expected in zip(items, true, strict=False):
            found = np.frombuffer(base64.b64decode(item["embedding"]), "<f4")
            wanted = np.frombuffer(expected, "<f4")
            is_own = found.shape == wanted.shape and np.allclose(found, wanted, atol=_TOLERANCE)
            self.expect(is_own, "each vector is its own text's", who, item["index"])

    def check_calls(self, who: str, sent: int, most: int) -> None:
        """However bad it is, a provider is not asked again and again."""
        self.expect(sent <= most, "attempts are bounded", who, sent)

    def check_words(self, who: str, words: str) -> None:
        """Neither credentials nor texts are said."""
        for secret in _SECRETS:
            self.expect(secret not in words, "no secret is told", who, secret)

    def check_logs(self, records: Sequence[logging.LogRecord]) -> None:
        """Nothing secret is logged, and nothing is logged as a bug."""
        plain = logging.Formatter()
        for record in records:
            self.check_words(f"log of {record.name}", plain.format(record))
            is_calm = record.levelno < logging.ERROR
            self.expect(is_calm, "no fault of others is a bug of ours", plain.format(record))

    def check_books(self, ledger: MemoryLedger, sent: int, bill: Iterable[Line]) -> None:
        """Every call that left is in the book, with one end; what the provider worked on with
        success is settled, or unknown, and nothing is settled that it did not."""
        begun = Counter(one.id for one in (*ledger.begun, *ledger.noted))
        ended = Counter(one.id for one in ledger.ended)
        self.expect(begun == ended, "each attempt has one end", begun - ended, ended - begun)
        self.expect(set(begun.values()) <= {1}, "no attempt is booked twice", begun)
        self.expect(sent <= begun.total(), "what leaves is in the book", sent, begun.total())
        states = Counter(one.state for one in ledger.ended)
        billed = sum(1 for line in bill if line.tokens and line.status == 200)
        told = (billed, dict(states))
        self.expect(billed <= states["settled"] + states["unknown"], "no bill is missing", *told)
        self.expect(states["settled"] <= billed, "nothing is settled that was not billed", *told)

    async def check_leftovers(
        self,
        gateway: Gateway,
        apps: Sequence[App],
        theirs: Collection[asyncio.Task[Any]],
        transport: object,
    ) -> None:
        """When all callers have their answers, nothing of them is left. theirs: tasks that are not
        the gateway's."""

        def left() -> list[str]:
            return [*_tasks(theirs), *_held(gateway), *_shed(apps), *_connections(transport)]

        try:
            async with asyncio.timeout(_SETTLED_S):
                await until(lambda: not left())
        except TimeoutError:
            self.expect(False, "nothing is left", *left())


def _error_of(told: Any) -> dict[str, Any]:
    error = told.get("error") if isinstance(told, dict) else None
    return error if isinstance(error, dict) else {}


def _fields(value: Any) -> set[str]:
    """The names of all fields, however deep."""
    if isinstance(value, list):
        return {name for one in value for name in _fields(one)}
    if isinstance(value, dict):
        return {*value, *(name for one in value.values() for name in _fields(one))}
    return set()


def _tasks(theirs: Collection[asyncio.Task[Any]]) -> list[str]:
    ours = asyncio.all_tasks() - {asyncio.current_task()} - set(theirs)
    return [str(task.get_coro()) for task in ours]


def _held(gateway: Gateway) -> list[str]:
    """Places, permits and questions that are not given back."""
    found = []
    for name, stack in gateway.models.items():
        for account, limit in stack.limits.items():
            if limit.headroom.in_flight or limit.waiting:
                found.append(f"Limit of {account}: {limit.headroom.in_flight}, {limit.waiting}")
        for account, health in stack.health.items():
            if health.in_flight:
                found.append(f"Health of {account}: {health.in_flight}")
        for layer in layers_of(stack.top):
            if isinstance(layer, Coalesce) and layer._asked:
                found.append(f"Coalesce of {name}")
            if isinstance(layer, Batch) and (layer.waiting or layer._running):
                found.append(f"Batch of {name}: {layer.waiting} {layer._running}")
    return found


def _shed(apps: Sequence[App]) -> list[str]:
    return [f"Shed: {a.shed.requests}" for a in apps if a.shed.requests or a.shed.bytes]


def _connections(transport: object) -> list[str]:
    if not isinstance(transport, Transport):
        return []
    sessions = (transport._private, transport._public)
    connectors = [session.connector for session in sessions if session is not None]
    return [
        f"connections: {connector._acquired} {connector._waiters}"
        for connector in connectors
        if connector is not None and (connector._acquired or connector._waiters)
    ]
