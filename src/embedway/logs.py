"""What is written to standard error: a line for each record, as text or as JSON.

Only this gateway speaks at the level that is set. Libraries speak from warnings on, and with the
first line of what they say: below, a database tells the parameters of its statements, and an event
loop what a failed task was about. Of an exception its class and its places are written, never its
own words, which may quote a text.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

import orjson

from embedway.settings import LogSettings

OURS = "embedway"
REQUEST_ID = "request_id"
"""The name under which a record carries a request's id: `extra={REQUEST_ID: ...}`."""


def start_logs(settings: LogSettings, stream: TextIO) -> None:
    """Write what this process logs to *stream*, from now on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    level = getattr(logging, settings.level.upper())
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING))
    logging.getLogger(OURS).setLevel(level)


class TextLines(logging.Formatter):
    """`LEVEL logger message`, and below it the places of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The record without its line end."""
        line = f"{record.levelname} {record.name} {_escaped(_message(record))}"
        places = [f"  {_escaped(place)}" for place in _places(record)]
        return "\n".join([line, *places])


class JsonLines(logging.Formatter):
    """One object a line: time (UTC), level, logger, message; request_id and exception if known."""

    def format(self, record: logging.LogRecord) -> str:
        """The record without its line end. JSON escapes control characters itself."""
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        if (id := getattr(record, REQUEST_ID, None)) is not None:
            line["request_id"] = id
        if places := list(_places(record)):
            line["exception"] = places
        return orjson.dumps(line, default=str).decode()


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    # Half a surrogate pair is no character, and neither a terminal nor JSON takes it.
    message = message.encode(errors="replace").decode()
    is_ours = record.name.partition(".")[0] == OURS
    return message if is_ours else message.strip().partition("\n")[0]


def _places(record: logging.LogRecord) -> Iterator[str]:
    """Where an exception came from, the innermost last, and its class; what it is due to first."""
    if not record.exc_info or record.exc_info[1] is None:
        return
    chain: list[BaseException] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for one in reversed(chain):
        for frame in traceback.extract_tb(one.__traceback__):
            yield f"{frame.filename}:{frame.lineno} in {frame.name}"
        yield type(one).__qualname__


def _escaped(text: str) -> str:
    """One line that steers no terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
