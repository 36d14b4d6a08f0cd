"""Harm to the n-th call that the gateway makes of what it stands on: the transport, the store, the
vectors in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from embedway.cached import Cached, Key, Label
from embedway.provider import HttpRequest, HttpResponse, Send
from embedway.store.recent import RecentVectors
from embedway.surroundings import Kept
from tests.memory_store import MemoryStore

T = TypeVar("T")


class Broke(OSError):
    """What is raised: nothing that anybody has promised or expects."""


async def _raise(work: Callable[[], Awaitable[T]]) -> T:
    raise Broke


async def _hang(work: Callable[[], Awaitable[T]]) -> T:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("it never ends by itself")


async def _cancel(work: Callable[[], Awaitable[T]]) -> T:
    raise asyncio.CancelledError


async def _do_and_raise(work: Callable[[], Awaitable[T]]) -> T:
    await work()
    raise Broke


HARMS: Mapping[str, Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]] = {
    "raises": _raise,
    "hangs": _hang,
    "is cancelled": _cancel,
    "succeeds, then raises": _do_and_raise,
}


class Harm:
    """Counts calls, and does its harm to one of them."""

    def __init__(self) -> None:
        self.calls = 0
        self.done = asyncio.Event()
        self._number = 0
        self._name = ""

    def plan(self, number: int, name: str) -> None:
        """From now on count anew, and harm the call of that number."""
        self.calls, self._number, self._name = 0, number, name
        self.done.clear()

    def forget(self) -> None:
        """Do no harm."""
        self.plan(0, "")

    def _is_now(self) -> bool:
        self.calls += 1
        if self.calls == self._number:
            self.done.set()
        return self.calls == self._number

    async def wait(self, work: Callable[[], Awaitable[T]]) -> T:
        """A call that is waited for."""
        if self._is_now():
            found: T = await HARMS[self._name](work)
            return found
        return await work()

    def do(self, work: Callable[[], T]) -> T:
        """A call that nobody waits for: it can only raise."""
        if not self._is_now():
            return work()
        if self._name.startswith("succeeds"):
            work()
        raise Broke

    def send(self, inner: Send) -> Send:
        """A transport."""

        async def send(
            request: HttpRequest, /, *, timeout_s: float, max_bytes: int
        ) -> HttpResponse:
            return await self.wait(lambda: inner(request, timeout_s=timeout_s, max_bytes=max_bytes))

        return send

    def keep(self, recent: RecentVectors, store: MemoryStore) -> Kept:
        """Where vectors are kept."""
        vectors: Any = _Store(store, self)
        memory: Any = _Recent(recent, self)
        return Kept(memory, vectors)


class _Recent:
    """The vectors in memory."""

    def __init__(self, inner: RecentVectors, harm: Harm) -> None:
        self._inner, self._harm = inner, harm

    @property
    def purges(self) -> int:
        return self._inner.purges

    def get_many(self, keys: Sequence[Key]) -> dict[Key, Cached]:
        return self._harm.do(lambda: self._inner.get_many(keys))

    def put_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None:
        self._harm.do(lambda: self._inner.put_many(label, entries))

    def add_many(self, label: Label, entries: Iterable[tuple[Key, Cached]]) -> None:
        self._harm.do(lambda: self._inner.add_many(label, entries))


class _Store:
    """The vectors elsewhere; only what requests use."""

    def __init__(self, inner: MemoryStore, harm: Harm) -> None:
        self._inner, self._harm = inner, harm

    async def get_many(self, label: Label, keys: Sequence[Key], /) -> Mapping[Key, Cached]:
        return await self._harm.wait(lambda: self._inner.get_many(label, keys))

    def put_many(self, label: Label, entries: Sequence[tuple[Key, Cached]], /) -> None:
        self._harm.do(lambda: self._inner.put_many(label, entries))
