"""What a caller hears while nobody can come in: made once, since those who are refused must cost
those who are in as little as possible."""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache

from embedway.clock import Clock
from embedway.ids import Ids
from embedway.metrics import Metrics
from embedway.server.envelope import render_error
from embedway.server.messages import Incoming, Outgoing
from embedway.server.shed import Shed, overloaded

_ID = b"x-request-id"
_PLAIN = re.compile(rb"POST (/v1/embeddings|/embeddings) HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\n(?i:content-length):[ \t]*([0-9]{1,9})[ \t]*(?=\r\n)")
_NOT_PLAIN = re.compile(
    rb"\r\n(?:[ \t]|(?i:transfer-encoding|expect|upgrade|origin|connection:(?![ \t]*keep-alive\r)))"
)
"""What decides where a request ends, whether something comes before its answer, and whether its
connection goes on; and the pages of other origins, whose browsers must be told more."""
_THEIR_ID = re.compile(rb"\r\n(?i:x-request-id):[ \t]*([A-Za-z0-9_-]{1,64})[ \t]*\r\n")


class FullDoor:
    """Fits `receipt.Door`: refuses on the routes of OpenAI's API, the application on all others."""

    def __init__(self, shed: Shed, clock: Clock, ids: Ids, metrics: Metrics) -> None:
        self._shed, self._ids, self._metrics = shed, ids, metrics
        self._now = clock.monotonic

    @property
    def is_full(self) -> bool:
        """Whether nobody can come in."""
        return self._shed.is_full

    def let_in(self) -> float:
        """Count a request whose own task has yet to begin."""
        if not self._shed.arriving:
            # Runs before that task and after all who arrive together with it.
            asyncio.get_running_loop().call_soon(self._all_in)
        self._shed.arriving += 1
        return self._now()

    def _all_in(self) -> None:
        self._shed.arriving = 0

    def refuse(self, data: bytes) -> Outgoing | None:
        """The answer to a request that is all of *data* and of the plainest kind. None, so that it
        is parsed and the application says more, for anything else."""
        plain = _PLAIN.match(data)
        end = data.find(b"\r\n\r\n") + 2
        lengths = _LENGTH.findall(data, 0, end)
        if (
            plain is None
            or len(lengths) != 1
            or int(lengths[0]) != len(data) - end - 2
            or _NOT_PLAIN.search(data, 0, end)
            or data.count(b"\n", 0, end) != data.count(b"\r\n", 0, end)
        ):
            return None
        status, others, body = _refusal(self._shed.reason)
        self._metrics.count_response(plain[1].decode(), status)
        theirs = _THEIR_ID.search(data, 0, end)
        id = theirs[1] if theirs else b"req_%b" % self._ids.new().encode()
        return Outgoing(status, (*others, (_ID, id)), body)


@lru_cache(16)
def _refusal(reason: str) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes]:
    """Status, headers but for the id, and body, which has no id."""
    nobody = Incoming(method="POST", path="", headers={})
    outgoing = render_error(overloaded(reason), nobody, "")
    others = tuple(header for header in outgoing.headers if header[0] != _ID)
    return outgoing.status, others, outgoing.body
