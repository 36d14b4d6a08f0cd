"""`/v1/management/cache`: what is kept, and to export, import and purge it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from msgspec.structs import astuple
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from embedway.cached import Group, Selection, VectorStore
from embedway.errors import NotFound, Overloaded
from embedway.runtime import Runtime
from embedway.server.management_answers import Methods, json_answer
from embedway.server.management_bodies import read_body, read_query
from embedway.server.management_cache_bodies import check_lines_head, read_lines, read_purge
from embedway.server.management_cache_schemas import Choice
from embedway.server.messages import read_head
from embedway.store.database import StoreError
from embedway.vector_files import MEDIA_TYPE, Entry, restore, write_line

_CHUNK_BYTES = 64 * 2**10
_RETRY_S = 5
_log = logging.getLogger("embedway.management")


class CacheRoutes:
    """The routes about the cache."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._max_body_bytes = runtime.settings.server.max_body_bytes

    def table(self) -> dict[str, Methods]:
        """Path below the root to its methods."""
        return {
            "cache": {"GET": self._stats},
            "cache/purge": {"POST": self._purge},
            "cache/export": {"GET": self._export},
            "cache/warm": {"POST": self._warm},
        }

    async def _stats(self, request: Request) -> Response:
        recent, store = self._runtime.recent, self._runtime.vectors
        memory, kept = None, None
        if recent is not None:
            memory = _summary(recent.groups()) | {
                "bytes": recent.bytes,
                "max_bytes": recent.max_bytes,
            }
        if store is not None:
            kind = "file" if self._runtime.settings.redis_url is None else "redis"
            kept = {"kind": kind, **_summary(await store.groups())}
        return json_answer({"memory": memory, "store": kept})

    async def _purge(self, request: Request) -> Response:
        selection = self._selection(await read_purge(request, self._max_body_bytes))
        recent, store = self._runtime.recent, self._runtime.vectors
        # The store first: memory would be filled from it again.
        stored = 0 if store is None else await store.purge(selection)
        remembered = 0 if recent is None else recent.purge(selection)
        # What is in memory is in the store, too, where that keeps the model and has room.
        return json_answer({"deleted": max(stored, remembered)})

    async def _export(self, request: Request) -> Response:
        selection = self._selection(read_query(request, Choice))
        store = self._store()
        await store.flush()
        chunks = _chunks(store.entries(selection))
        first = await anext(chunks, b"")  # a store that fails at once is told with its status
        return _Export(_rejoined(first, chunks), media_type=MEDIA_TYPE)

    async def _warm(self, request: Request) -> Response:
        are_many = check_lines_head(read_head(request.scope))
        store = self._store()
        body = await read_body(request, self._max_body_bytes)
        lines = body.split(b"\n") if are_many else [body]
        entries = await asyncio.to_thread(read_lines, lines)
        ttl_s = self._runtime.settings.cache.ttl_s
        oldest_s = self._runtime.clock.now() - ttl_s if ttl_s else -1.0
        restored = await restore(store, entries, oldest_s)
        if restored.lost:
            _log.error("the store did not keep %d vectors of an import", restored.lost)
            raise Overloaded(
                f"The store did not keep {restored.lost} of {len(entries)} vectors: it failed, or "
                "has no room. The same body may be sent again.",
                retry_after_s=_RETRY_S,
            )
        return json_answer({"stored": restored.stored, "expired": restored.expired})

    def _store(self) -> VectorStore:
        if self._runtime.vectors is None:
            raise NotFound("This gateway keeps vectors in its memory only; no store is configured.")
        return self._runtime.vectors

    def _selection(self, wanted: Choice) -> Selection:
        model = wanted.model
        if model is not None:  # a name that nobody knows is looked for as it is
            model = self._runtime.gateway.directory.canonical(model)
        return Selection(model=model, space=wanted.space, project=wanted.project)


class _Export(StreamingResponse):
    """A store that fails half-way leaves the answer without its end, so that no caller takes what
    came for the whole."""

    async def stream_response(self, send: Send) -> None:
        """Send it."""
        try:
            await super().stream_response(send)
        except StoreError as error:
            _log.error("an export was cut off: %s", error)


async def _chunks(entries: AsyncIterator[Entry]) -> AsyncIterator[bytes]:
    """Lines, some at a time: each message costs more than a line."""
    lines: list[bytes] = []
    size = 0
    async for entry in entries:
        lines.append(write_line(entry))
        size += len(lines[-1])
        if size >= _CHUNK_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


async def _rejoined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _summary(groups: list[Group]) -> dict[str, Any]:
    records = [
        {
            "model": group.label.model,
            "space": group.label.space,
            "project": group.label.project,
            "vectors": group.vectors,
            "bytes": group.bytes,
        }
        for group in sorted(groups, key=lambda group: astuple(group.label))
    ]
    return {
        "vectors": sum(group.vectors for group in groups),
        "bytes": sum(group.bytes for group in groups),
        "groups": records,
    }
