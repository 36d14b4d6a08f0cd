"""What must be true of every answer and every end, whatever went wrong: the one checker that all
simulations share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedway.errors import DeadlineExceeded, EmbedError
from embedway.layers.meter import CALLER_GONE
from embedway.positions import is_about_request
from embedway.types import CACHED, Embedding, EmbedResponse, Input
from tests.sim.books import Books
from tests.sim.log import Log
from tests.sim.plan import BAD, Caller
from tests.sim.traffic import AT_ONCE_S, Traffic, Visit, now_s
from tests.sim.vectors import is_true, true_tokens

_TO_TELL_S = 0.03
"""So long before the caller's time is over a provider's is."""
_POSITION = re.compile(r"\binput\[(\d+)\]")


class Laws:
    """Told of every event; `log.broken` has what was against the law."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.traffic = Traffic(log)
        self.books = Books(log, self.traffic)
        self.must_succeed = False
        """Whether nothing goes wrong just now, so that every caller must be served."""

    def came(self, caller: Caller) -> Visit:
        """A caller asks."""
        self.log.write(f"caller {caller.number} asks {caller.kind.model} {len(caller.inputs)}")
        visit = Visit(caller)
        self.traffic.came(visit)
        return visit

    def answered(self, visit: Visit, response: EmbedResponse) -> None:
        """He got an answer."""
        caller, kind, expect = visit.caller, visit.caller.kind, self.log.expect
        self._went(visit, "answered")
        params, dimensions = response.params, caller.dimensions or kind.widths[0]
        asked = (kind.model, dimensions)
        expect((params.model, params.dimensions) == asked, "an answer has its params", params)
        expect(not _bad(caller.inputs), "a refused text has no vector", caller.number)
        is_whole = len(response.embeddings) == len(caller.inputs)
        expect(is_whole, "each input has one vector", caller.number)
        for position, embedding in enumerate(response.embeddings[: len(caller.inputs)]):
            self._check(visit, position, embedding)
            self.books.collect(visit, embedding, position)
        self.books.check_lines(visit, 200, sum(one.cost for one in response.embeddings))

    def failed(self, visit: Visit, error: EmbedError) -> None:
        """He got an error."""
        caller, expect, number = visit.caller, self.log.expect, visit.caller.number
        self._went(visit, f"failed: {error.code}")
        expect(not self.must_succeed, "without faults all are served", number, error)
        bad = _bad(caller.inputs)
        named = {int(one) for one in _POSITION.findall(f"{error.message} {error.param}")}
        expect(named <= set(bad), "an error names a bad input of the caller", number, error)
        self.log.met["error that names an input"] += bool(named)
        is_over = now_s() >= visit.deadline_s - AT_ONCE_S
        if is_about_request(error):
            expect(bool(bad), "only who sent a bad text is refused", number, error)
        elif isinstance(error, DeadlineExceeded):
            expect(is_over, "nobody's time is over before it is", number, caller.time_s)
        else:
            is_over = now_s() >= visit.deadline_s - _TO_TELL_S - AT_ONCE_S
            has_cause = is_over or self.traffic.was_troubled(visit)
            expect(has_cause, "an error has a cause of late", number, error)
        for position, embedding in error.finished.items():
            self._check(visit, position, embedding)
            self.books.collect(visit, embedding, position)
        done = sum(one.cost for one in error.finished.values())
        self.books.check_lines(visit, error.status, done)

    def left(self, visit: Visit) -> None:
        """He hung up, or his task was cancelled by mistake."""
        self._went(visit, "left")
        leaves_s = visit.caller.leaves_s
        is_own = leaves_s is not None and now_s() >= visit.came_s + leaves_s - AT_ONCE_S
        self.log.expect(is_own, "nobody is cancelled who has not left", visit.caller.number)
        self.books.check_lines(visit, CALLER_GONE, 0)

    def crashed(self, visit: Visit, bug: Exception) -> None:
        """Something else came out of the gateway."""
        self._went(visit, f"crashed: {bug!r}")
        self.log.expect(False, "only an EmbedError gets out", visit.caller.number, bug)

    def _went(self, visit: Visit, end: str) -> None:
        caller, leaves_s = visit.caller, visit.caller.leaves_s
        self.log.write(f"caller {caller.number} {end}")
        self.log.met[f"caller: {end}"] += 1
        ends_s = visit.deadline_s
        if leaves_s is not None:
            ends_s = min(ends_s, visit.came_s + leaves_s)
        is_in_time = now_s() <= ends_s + AT_ONCE_S
        self.log.expect(is_in_time, "nobody is held longer than he waits", caller.number)
        self.traffic.went(visit, is_early=now_s() >= ends_s - AT_ONCE_S)

    def _check(self, visit: Visit, position: int, embedding: Embedding) -> None:
        """One vector: whose it is, and where it may come from."""
        caller, kind, expect = visit.caller, visit.caller.kind, self.log.expect
        value, where = caller.inputs[position], (caller.number, position)
        dimensions, task = caller.dimensions or kind.widths[0], kind.task(caller.input_type)
        found = is_true(embedding.vector, value, kind, dimensions, task)
        expect(found, "each vector is its own text's, in order", *where, embedding.source)
        if kind.is_counted:
            is_exact = embedding.tokens == true_tokens(value, kind) and not embedding.is_estimated
            expect(is_exact, "tokens that can be counted are exact", *where, embedding.tokens)
        if embedding.source == CACHED:
            self.log.met["hit"] += 1
            expect(caller.cache == "use", "who skips the cache gets nothing from it", *where)
            expect(self._was_known(visit, position), "a project knows its own alone", *where)

    def _was_known(self, visit: Visit, position: int) -> bool:
        """Whether somebody of the project has asked for that text before, and kept it."""
        return any(
            other is not visit
            and other.caller.project == visit.caller.project
            and other.caller.cache != "skip"
            for other in self.traffic.visits[visit.wants[position]]
        )


def _bad(inputs: Sequence[Input]) -> list[int]:
    """Positions of the texts that every provider refuses."""
    return [i for i, one in enumerate(inputs) if isinstance(one, str) and one.startswith(BAD)]
