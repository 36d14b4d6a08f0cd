"""The attempts book and the budgets: written before a provider is asked, and once it has answered.

One thread writes whatever waits in one transaction, at once when it is idle: so that a commit,
which reaches the disk, is shared by all who come meanwhile. What costs nothing is gathered for a
moment. What cannot be written is refused; what ended is kept until it can.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from embedway.clock import Clock
from embedway.ledger import AttemptBegun, AttemptEnded, Held, Reservation, UsageLine
from embedway.store.ledger_rows import LedgerRows
from embedway.store.ledger_work import (
    KEPT,
    RETRY_S,
    Begin,
    Mark,
    Reserve,
    Settle,
    Work,
    never_made,
    tell,
    unavailable,
    undone,
)
from embedway.store.recovery import BEAT_S, beat, leave, sweep

_AT_ONCE = 256
"""The most that one transaction writes."""
_GATHER_S = 0.02
"""How long what costs nothing waits for more of its kind: what a killed process may lose of it."""
_LONGEST_WAIT_S = 5.0
_LAST_TRIES = 20
_LAST_PAUSE_S = 0.25
"""How often closing tries to write what is left, and how long it waits in between."""
_AWAY = (OperationalError, InterfaceError, OSError)
"""What goes by: the database is gone, locked, full, or slow."""
_log = logging.getLogger("embedway.ledger")


class Ledger:
    """For one event loop. *process* is this gateway's own id in the database.

    idle_s: how long the thread sleeps at most while there is nothing to write.
    """

    def __init__(
        self, engine: Engine, clock: Clock, process: str, *, idle_s: float = BEAT_S
    ) -> None:
        self._engine, self._clock, self._process = engine, clock, process
        self._idle_s = idle_s
        self._rows = LedgerRows(engine, process)
        self._waiting: deque[Work] = deque()
        self._owed: list[Work] = []
        """What ended and could not be written yet. Only the thread touches it."""
        self._work = threading.Event()
        """There is something to write."""
        self._haste = threading.Event()
        """It is not to be gathered."""
        self._is_closed = False
        self._beats_at = self._resumes_at = clock.monotonic()
        self._connection: Connection | None = None
        self._is_committing = False
        """Whether the last transaction has come as far as its commit."""
        self._thread = threading.Thread(target=self._run, name="embedway-ledger", daemon=True)
        self._thread.start()

    async def begin(self, attempt: AttemptBegun) -> None:
        """Write down an attempt that is about to be made. Raises LedgerUnavailable."""
        await self._commit(lambda written: Begin(attempt, written))

    def note(self, attempt: AttemptBegun | AttemptEnded) -> None:
        """The begin or the end of one that costs nothing: written within a moment."""
        work = Begin(attempt, None) if isinstance(attempt, AttemptBegun) else attempt
        self._add(work, is_urgent=False)

    def end(self, attempt: AttemptEnded) -> None:
        """What became of it: written soon, however long the database is away."""
        self._add(attempt)

    async def reserve(self, wanted: Reservation) -> tuple[Held, ...]:
        """Hold the amount back from each budget. Raises BudgetExceeded, LedgerUnavailable."""
        return await self._commit(lambda written: Reserve(wanted, written))

    def settle(self, wanted: Reservation, held: tuple[Held, ...], cost: int) -> None:
        """It cost so much, in picodollars: written soon, as by `end`."""
        if held:
            self._add(Settle(wanted, cost))

    def add(self, line: UsageLine) -> None:
        """The usage line of a request that was paid: written with the end of its attempts."""
        self._add(line)

    def flush(self) -> None:
        """Wait until what was added before is written, or cannot be. Blocking."""
        mark = Mark(threading.Event())
        self._add(mark)
        while not mark.done.wait(RETRY_S) and self._thread.is_alive():
            pass

    def close(self) -> None:
        """Write what is left, for some seconds at most, and stop the thread. Blocking."""
        self._is_closed = True
        self._haste.set()
        self._work.set()
        self._thread.join()

    async def _commit(
        self, make: Callable[[asyncio.Future[tuple[Held, ...]]], Work]
    ) -> tuple[Held, ...]:
        if self._clock.monotonic() < self._resumes_at or self._is_closed:
            raise unavailable()
        written: asyncio.Future[tuple[Held, ...]] = asyncio.get_running_loop().create_future()
        work = make(written)
        self._add(work)
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                return await asyncio.shield(written)
        except TimeoutError:
            self._give_up(work, written)
            raise unavailable() from None
        except asyncio.CancelledError:
            self._give_up(work, written)
            raise

    def _give_up(self, work: Work, written: asyncio.Future[tuple[Held, ...]]) -> None:
        """Nobody waits for it any more: what is written of it all the same is ended at once."""

        def end(_: object) -> None:
            if written.cancelled() or written.exception() is not None:
                return
            if isinstance(work, Begin):
                self.end(never_made(work.attempt))
            elif isinstance(work, Reserve):
                self.settle(work.wanted, written.result(), 0)

        written.add_done_callback(end)

    def _add(self, work: Work, *, is_urgent: bool = True) -> None:
        self._waiting.append(work)
        if is_urgent and not self._haste.is_set():  # first: or the thread would wake twice
            self._haste.set()
        if not self._work.is_set():
            self._work.set()

    def _run(self) -> None:
        self._write_what_waits()  # above all: that this process lives, and which ones do not
        while not self._is_closed or self._waiting:
            self._work.wait(self._idle_s if not self._owed else RETRY_S)
            self._haste.wait(_GATHER_S)
            # Cleared before anything is looked at: what comes from here on sets them again.
            self._work.clear()
            self._haste.clear()
            self._write_what_waits()
        for _ in range(_LAST_TRIES):
            if self._owed:
                threading.Event().wait(_LAST_PAUSE_S)
                self._write_what_waits()
        if self._owed:
            _log.error("%d ends of attempts and reservations were not written", len(self._owed))
        else:
            self._try(lambda connection: leave(connection, self._process))
        self._disconnect()

    def _write_what_waits(self) -> None:
        while True:
            owed, self._owed = self._owed, []
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            is_due = self._clock.monotonic() >= self._beats_at
            if not (owed or taken or is_due):
                return
            self._write(owed + taken, is_due=is_due)
            if not self._waiting:
                return

    def _write(self, work: list[Work], *, is_due: bool) -> None:
        answers: list[tuple[asyncio.Future[Any], Any]] = []
        error = self._try(lambda connection: self._apply(connection, work, answers, is_due=is_due))
        for one in work:
            if isinstance(one, Mark):
                one.done.set()
        if error is None:
            if is_due:
                self._beats_at = self._clock.monotonic() + BEAT_S
            tell(answers)
            return
        self._rows.forget_windows()
        if not isinstance(error, _AWAY):
            self._write_apart(work, error)
            return
        self._resumes_at = self._clock.monotonic() + RETRY_S
        _log.error("the ledger cannot be written: %s", type(error).__name__)
        self._owed += [one for one in work if isinstance(one, KEPT)]
        if self._is_committing:  # whether it was written is not known
            self._owed += undone(work)
        waited = [one.written for one in work if isinstance(one, (Begin, Reserve))]
        tell([(written, unavailable()) for written in waited if written is not None])

    def _write_apart(self, work: list[Work], error: Exception) -> None:
        """One of them cannot be written, ever: it must not take the others with it."""
        if len(work) > 1:
            for one in work:
                self._write([one], is_due=False)
            return
        _log.error("a line of the ledger is lost: %s", type(error).__name__)
        lost = [one.written for one in work if isinstance(one, (Begin, Reserve))]
        tell([(written, unavailable()) for written in lost if written is not None])

    def _apply(
        self,
        connection: Connection,
        work: list[Work],
        answers: list[tuple[asyncio.Future[Any], Any]],
        *,
        is_due: bool,
    ) -> None:
        rows, now_ms = self._rows, int(self._clock.now() * 1000)
        begins = [one for one in work if isinstance(one, Begin)]
        reserves = [one for one in work if isinstance(one, Reserve)]
        rows.begin(connection, [one.attempt for one in begins])
        rows.end(connection, [one for one in work if isinstance(one, AttemptEnded)])
        rows.add_usage(connection, [one for one in work if isinstance(one, UsageLine)])
        settles = [one for one in work if isinstance(one, Settle)]
        wanted = [one.wanted for one in reserves]
        rows.find_windows(connection, wanted)
        rows.lock(connection, wanted + [one.wanted for one in settles])
        for settle in settles:  # first: it makes room
            rows.settle(connection, settle.wanted, settle.cost)
        answers += [(one.written, ()) for one in begins if one.written is not None]
        answers += [(one.written, rows.reserve(connection, one.wanted)) for one in reserves]
        if is_due:
            beat(connection, self._process, now_ms)
            if lost := sweep(connection, now_ms):
                _log.warning("%d attempts of a gateway that died are unknown now", lost)

    def _try(self, write: Callable[[Connection], None]) -> Exception | None:
        """One transaction; the error if it failed."""
        self._is_committing = False
        try:
            if self._connection is None:
                self._connection = _connected(self._engine)
            with self._connection.begin() as transaction:
                write(self._connection)
                self._is_committing = True
                transaction.commit()
        except (SQLAlchemyError, OSError) as error:
            self._disconnect()
            return error
        except Exception as error:  # a bug; the thread must live on, and nobody may wait for ever
            _log.exception("the ledger")
            self._disconnect()
            return error
        return None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except SQLAlchemyError as error:
                _log.warning("a connection could not be closed: %s", type(error).__name__)


def _connected(engine: Engine) -> Connection:
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        # What was paid must be known after a power cut, too: each commit reaches the disk
        # (https://sqlite.org/pragma.html#pragma_synchronous).
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
        connection.commit()
    return connection
