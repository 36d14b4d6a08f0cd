"""The model in this process, as an Embedder.

One thread computes; the event loop never does. What waits when the thread is free is embedded
together, whoever asked (timer-free: an idle model starts at once), and every waiting caller gets a
fair share of each run, so that a single text never waits behind a request of 2,048.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from msgspec import Struct

from embedway.clock import Clock
from embedway.errors import EmbedError, InputTooLong, Overloaded
from embedway.static_model import StaticModel
from embedway.types import Attempt, Embedding, EmbedRequest, EmbedResponse
from embedway.vectors import normalise, pack_rows, truncate

PROVIDER = "local"


class _Job:
    """One caller's texts, and how far they have come."""

    __slots__ = ("answer", "dimensions", "embeddings", "texts")

    def __init__(
        self, texts: tuple[str, ...], dimensions: int, answer: asyncio.Future[None]
    ) -> None:
        self.texts = texts
        self.dimensions = dimensions
        self.embeddings: list[Embedding] = []
        self.answer = answer

    @property
    def waiting(self) -> int:
        return len(self.texts) - len(self.embeddings)


class _Piece(Struct, frozen=True):
    """A run of one caller's texts; `start` is the position of the first in his request."""

    texts: tuple[str, ...]
    start: int
    dimensions: int


class Local:
    """Embeds with *model*, off the event loop. `close()` it when done."""

    def __init__(
        self,
        model: StaticModel,
        *,
        clock: Clock,
        name: str,
        max_input_tokens: int,
        batch_inputs: int,
        queue_inputs: int,
    ) -> None:
        self.name = name
        self._model = model
        self._clock = clock
        self._max_input_tokens = max_input_tokens
        self._batch_inputs = batch_inputs
        self._queue_inputs = queue_inputs
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedway-local")
        self._worker: asyncio.Task[None] | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Local({self.name!r}, waiting={self._waiting})"

    async def __call__(self, request: EmbedRequest, /) -> EmbedResponse:
        started_ms = int(self._clock.now() * 1000)
        texts = tuple(text for text in request.inputs if isinstance(text, str))
        assert len(texts) == len(request.inputs), "route decodes token ids before they get here"
        dimensions = request.params.dimensions or self._model.dimensions
        try:
            embeddings = await self._embed(texts, dimensions)
        except EmbedError as error:
            error.attempts += (self._attempt(started_ms, error),)
            raise
        return EmbedResponse(
            params=request.params,
            embeddings=tuple(embeddings),
            attempts=(self._attempt(started_ms, None),),
        )

    def count_tokens(self, text: str) -> int:
        """The tokens of a text. Blocking, for long texts."""
        return len(self._model.tokenize([text])[0])

    async def close(self) -> None:
        """Refuse what waits, and let the thread finish the run it is in."""
        self._is_closed = True
        for job in self._jobs:
            if not job.answer.done():
                job.answer.set_exception(Overloaded("The gateway is shutting down; try again."))
        self._jobs.clear()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown()

    def _attempt(self, started_ms: int, error: EmbedError | None) -> Attempt:
        return Attempt(
            model=self.name,
            provider=PROVIDER,
            upstream_model=self.name.partition("/")[2],
            started_ms=started_ms,
            ended_ms=int(self._clock.now() * 1000),
            is_success=error is None,
            status=200 if error is None else error.status,
            error=error.code if error else None,
        )

    async def _embed(self, texts: tuple[str, ...], dimensions: int) -> list[Embedding]:
        if self._is_closed or self._waiting + len(texts) > self._queue_inputs:
            raise Overloaded(
                f"{self.name} has {self._waiting} texts waiting; try again in a second.",
                retry_after_s=1,
            )
        for position, text in enumerate(texts):
            if self._model.least_tokens(text) > self._max_input_tokens:
                raise self._too_long(position, f"has {len(text)} characters")
        job = _Job(texts, dimensions, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._waiting += len(texts)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        # A cancelled caller cancels the future; his waiting texts are dropped, not computed.
        await job.answer
        return job.embeddings

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while taken := self._take():
            pieces = [piece for _, piece in taken]
            try:
                results = await loop.run_in_executor(self._thread, self._run, pieces)
            except Exception as error:  # a bug must reach its callers, not hang them
                results = [error] * len(pieces)
            for (job, _), result in zip(taken, results, strict=True):
                self._deliver(job, result)

    def _take(self) -> list[tuple[_Job, _Piece]]:
        """The next run: a fair share of each waiting caller's texts, oldest caller first."""
        jobs = [job for job in self._jobs if not job.answer.done()]
        self._waiting = sum(job.waiting for job in jobs)
        room, taken = self._batch_inputs, []
        for position, job in enumerate(jobs):
            share = max(1, room // (len(jobs) - position))
            start = len(job.embeddings)
            texts = job.texts[start : start + share]
            taken.append((job, _Piece(texts, start, job.dimensions)))
            room -= len(texts)
            if room <= 0:
                break
        # Those who were served go to the end, so that more callers than room take turns.
        self._jobs = deque(jobs[len(taken) :] + [job for job, _ in taken])
        return taken

    def _deliver(self, job: _Job, result: list[Embedding] | Exception) -> None:
        if job.answer.done():
            return
        if isinstance(result, Exception):
            job.answer.set_exception(result)
            return
        job.embeddings += result
        if not job.waiting:
            job.answer.set_result(None)

    def _run(self, pieces: Sequence[_Piece]) -> list[list[Embedding] | Exception]:
        """In the thread: each piece's embeddings, or which of its texts is too long."""
        tokens = iter(self._model.tokenize([text for piece in pieces for text in piece.texts]))
        return [
            self._embed_piece(piece, list(islice(tokens, len(piece.texts)))) for piece in pieces
        ]

    def _embed_piece(self, piece: _Piece, tokens: list[list[int]]) -> list[Embedding] | Exception:
        for position, ids in enumerate(tokens, piece.start):
            if len(ids) > self._max_input_tokens:
                return self._too_long(position, f"has {len(ids)} tokens")
        vectors = pack_rows(normalise(self._model.sum_tokens(tokens)))
        if piece.dimensions != self._model.dimensions:
            # Cut as a kept vector is cut, so that both have the same bits.
            vectors = [truncate(vector, piece.dimensions) for vector in vectors]
        return [Embedding(v, len(ids), PROVIDER) for v, ids in zip(vectors, tokens, strict=True)]

    def _too_long(self, position: int, size: str) -> InputTooLong:
        return InputTooLong(
            f"input[{position}] {size}, but {self.name} takes at most {self._max_input_tokens} "
            "tokens an input. Split the text into shorter ones.",
            param=f"input[{position}]",
        )
