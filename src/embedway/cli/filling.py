"""Embeds the rows whose vectors are not in the journal yet, several requests at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator

from msgspec import Struct

from embedway.cli.journal import Journal, digest
from embedway.cli.readers import Row
from embedway.cli.stop import Stop
from embedway.errors import EmbedError
from embedway.types import Embedding, EmbedResponse

# A token is at least a byte, so that no request can pass the 300,000 tokens that OpenAI allows,
# unless one text does.
_BATCH_BYTES = 200_000
_BATCH_ROWS = 4096

Ask = Callable[[tuple[str, ...]], Awaitable[EmbedResponse]]


class Limits(Struct, frozen=True, kw_only=True):
    """How much is asked for at once."""

    inputs: int
    """Texts in one request."""
    requests: int
    """Requests in flight."""


class Batch(Struct, frozen=True):
    """Consecutive rows with their digests, and those that must be asked for, by digest."""

    rows: list[tuple[bytes, Row]]
    wanted: dict[bytes, Row]


class Filled(Struct, frozen=True):
    """A batch whose vectors are all in the journal now."""

    rows: list[tuple[bytes, Row]]
    new: dict[bytes, Embedding]
    seconds: float
    """How long its request took."""


Tell = Callable[[Filled], None]
_Window = deque[tuple[Batch, "asyncio.Task[Filled]"]]


async def fill(
    rows: Iterable[Row],
    journal: Journal,
    ask: Ask,
    limits: Limits,
    monotonic: Callable[[], float],
    tell: Tell,
) -> None:
    """Embed each text once, and *tell* of the batches in order.

    When a request fails, those in flight are waited for and kept; then Stop is raised if one row
    is to blame, else the EmbedError. Cancelled, it keeps what has come.
    """
    window: _Window = deque()
    try:
        for batch in _batches(rows, journal, window, limits.inputs):
            window.append((batch, asyncio.create_task(_request(batch, ask, monotonic))))
            if len(window) >= limits.requests:
                await _settle(window, journal, tell)
        while window:
            await _settle(window, journal, tell)
    except (EmbedError, Stop):
        await asyncio.gather(*(task for _, task in window), return_exceptions=True)
        raise
    finally:
        await _close(window, journal)


def _batches(
    rows: Iterable[Row], journal: Journal, window: _Window, most_inputs: int
) -> Iterator[Batch]:
    batch, size = Batch([], {}), 0
    for row in rows:
        length = len(row.text.encode())
        is_full = len(batch.wanted) >= most_inputs or len(batch.rows) >= _BATCH_ROWS
        if batch.rows and (is_full or size + length > _BATCH_BYTES):
            yield batch
            batch, size = Batch([], {}), 0
        name = digest(row.text)
        batch.rows.append((name, row))
        asked = (batch, *(other for other, _ in window))
        if name not in journal and not any(name in other.wanted for other in asked):
            batch.wanted[name] = row
            size += length
    if batch.rows:
        yield batch


async def _request(batch: Batch, ask: Ask, monotonic: Callable[[], float]) -> Filled:
    if not batch.wanted:
        return Filled(batch.rows, {}, 0.0)
    started = monotonic()
    response = await ask(tuple(row.text for row in batch.wanted.values()))
    new = dict(zip(batch.wanted, response.embeddings, strict=True))
    return Filled(batch.rows, new, monotonic() - started)


async def _settle(window: _Window, journal: Journal, tell: Tell) -> None:
    """Wait for the oldest request, keep its vectors, and tell."""
    batch, task = window[0]
    try:
        filled = await task
    except EmbedError as error:
        window.popleft()
        raise _blame(error, batch) from None
    window.popleft()
    _keep(filled, journal)
    tell(filled)


def _keep(filled: Filled, journal: Journal) -> None:
    journal.add((name, embedding.vector) for name, embedding in filled.new.items())


def _blame(error: EmbedError, batch: Batch) -> Exception:
    """The same error about the row instead of its position in our request, if it is about one."""
    for position, row in enumerate(batch.wanted.values()):
        if error.param == f"input[{position}]":
            return Stop(error.message.replace(error.param, row.place))
    return error


async def _close(window: _Window, journal: Journal) -> None:
    """Keep what has come, cancel the rest."""
    for _, task in window:
        if task.done() and not task.cancelled() and task.exception() is None:
            _keep(task.result(), journal)
        task.cancel()
    await asyncio.gather(*(task for _, task in window), return_exceptions=True)
