"""What can be wrong with an answer: one line in a test each.

    fake.next(status(429, retry_after_s=2))
    fake.next(wrong(lambda items: items[1:]))
    fake.always(cut(100))

A fault of a payload works on the items, before a shape writes them, and so for all shapes alike.
A fault of the framing plays with the connection itself: `play`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fake_provider.exchange import Answer, Asked, Item, Refused

Spoil = Callable[[Asked, list[Item]], list[Item]]
Play = Callable[["Wire", bytes], Awaitable[None]]


class Wire:
    """The fake's end of a connection, for faults that play with it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: bytes,
        on_whole: Callable[[], None],
    ) -> None:
        self.reader = reader
        self._writer = writer
        self._rest = answer
        self._on_whole = on_whole

    async def send(self, data: bytes) -> None:
        """Send bytes as they are. With the last one of the answer it counts as given, a moment
        before the caller can have it and ask for the bill."""
        if data and data == self._rest[: len(data)]:
            self._rest = self._rest[len(data) :]
            if not self._rest:
                self._on_whole()
        else:
            self._rest += data  # something else, so the answer is never whole
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Break the connection off, so that the other side sees a reset."""
        self._writer.transport.abort()


@dataclass(frozen=True)
class Fault:
    """What to do to one answer; what is not set is done as always."""

    before: asyncio.Event | None = None
    """Nothing is sent until this is set."""
    refused: Refused | None = None
    """Refuse, in the provider's own form; nothing is worked on or billed."""
    answer: Answer | None = None
    """Answer this instead."""
    spoil: Spoil | None = None
    """Changes the items before they are written."""
    tokens: Callable[[int], Any] | None = None
    """Changes the counts that are reported."""
    body: Callable[[bytes], bytes] | None = None
    """Changes the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that are added, or replaced."""
    play: Play | None = None
    """Gets the connection and the whole answer as bytes, and sends what it likes; then the
    connection is closed."""


def status(code: int, message: str = "no", retry_after_s: float | None = None) -> Fault:
    """The provider's own refusal with an HTTP status."""
    return Fault(refused=Refused(code, message, retry_after_s=retry_after_s))


def answers(body: bytes, code: int = 200, **headers: str) -> Fault:
    """Any answer; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(answer=Answer(code, {"content-type": "application/json", **named}, body))


def html(code: int = 200) -> Fault:
    """The page of a proxy in between."""
    page = b"<!doctype html><title>One moment</title><p>Checking your browser ..."
    return answers(page, code, content_type="text/html; charset=utf-8")


def delay(until: asyncio.Event) -> Fault:
    """No answer before *until* is set."""
    return Fault(before=until)


def cut(count: int) -> Fault:
    """The connection ends after *count* bytes of the body, as if all were well."""

    async def play(wire: Wire, answer: bytes) -> None:
        head = answer.index(b"\r\n\r\n") + 4
        await wire.send(answer[: head + count])

    return Fault(play=play)


def reset() -> Fault:
    """The connection is broken off without a byte."""

    async def play(wire: Wire, answer: bytes) -> None:
        wire.reset()

    return Fault(play=play)


def stall(count: int, until: asyncio.Event) -> Fault:
    """Nothing more comes after *count* bytes of the answer, before *until* is set."""

    async def play(wire: Wire, answer: bytes) -> None:
        await wire.send(answer[:count])
        await until.wait()
        await wire.send(answer[count:])

    return Fault(play=play)


def raw(data: bytes) -> Fault:
    """These bytes and nothing else, then the connection is closed."""

    async def play(wire: Wire, answer: bytes) -> None:
        await wire.send(data)

    return Fault(play=play)


def wrong(spoil: Callable[[list[Item]], list[Item]]) -> Fault:
    """Items that *spoil* has changed."""
    return Fault(spoil=lambda asked, items: spoil(items))


def usage(value: Any) -> Fault:
    """Every count that is reported is *value*; NOT_GIVEN leaves them out."""
    return Fault(tokens=lambda count: value)
