"""What stands in the log, and what does not."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from embedway.logs import REQUEST_ID, JsonLines, TextLines

SECRET = "sk-canary-0123456789"
FORMS = {"text": TextLines(), "json": JsonLines()}


def record(
    message: str, *arguments: object, name: str = "embedway.server", **extra: Any
) -> logging.LogRecord:
    """A warning."""
    made = logging.LogRecord(name, logging.WARNING, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def failing() -> None:
    """Raise one error because of another, both with a secret in their words."""
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"cannot read {SECRET}") from error


def with_error(raising: Callable[[], None] = failing) -> logging.LogRecord:
    """A record of an exception."""
    try:
        raising()
    except Exception:
        return record("a bug", exc_info=sys.exc_info())
    raise AssertionError("it did not raise")


def test_a_line_of_json() -> None:
    """One object with time in UTC, level, logger and message, and the request's id if known."""
    line = json.loads(JsonLines().format(record("%d of %s", 3, "four", created=1_800_000_000.5)))
    assert line == {
        "time": "2027-01-15T08:00:00.500+00:00",
        "level": "warning",
        "logger": "embedway.server",
        "message": "3 of four",
    }
    known = json.loads(JsonLines().format(record("a bug", **{REQUEST_ID: "req_1"})))
    assert known["request_id"] == "req_1"


def test_a_line_of_text() -> None:
    """Level, logger and message."""
    assert TextLines().format(record("%d of %s", 3, "four")) == "WARNING embedway.server 3 of four"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "words",
    ["a\nINFO forged", "a\r\nb", "\x1b[31mred", "\x00", "\x9b2J", "\u2028", "\ud800", "\u202e"],
)
def test_control_characters(form: logging.Formatter, words: str) -> None:
    """Nothing that is written ends a line early, steers a terminal, or cannot be written."""
    line = form.format(record("said %s", words))
    assert "said" in line
    assert len(line.splitlines()) == 1 or (form is FORMS["json"] and len(line.split("\n")) == 1)
    assert not {"\n", "\r", "\x1b", "\x00", "\ud800"} & set(line)
    line.encode()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_exceptions(form: logging.Formatter) -> None:
    """Classes and places are told, of the cause first, and none of the exceptions' own words."""
    line = form.format(with_error())
    assert SECRET not in line
    assert line.index("KeyError") < line.index("ValueError")
    assert "test_logs.py" in line
    assert "in failing" in line


def test_exceptions_in_a_circle() -> None:
    """Exceptions that are each other's cause are told once."""

    def circle() -> None:
        one, other = ValueError("one"), KeyError("other")
        one.__cause__, other.__cause__ = other, one
        raise one

    assert JsonLines().format(with_error(circle)).count("ValueError") == 1


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_libraries(form: logging.Formatter) -> None:
    """Of what a library says only the first line is written: an event loop shows below it what a
    failed task was about."""
    message = f"Task exception was never retrieved\nfuture: <Task exception=KeyError('{SECRET}')>"
    line = form.format(record(message, name="asyncio"))
    assert "never retrieved" in line
    assert SECRET not in line


SPEAKING = """
import logging, sys
from embedway.logs import start_logs
from embedway.settings import LogSettings
start_logs(LogSettings(level=sys.argv[1], format=sys.argv[2]), sys.stderr)
for name in ("embedway.access", "sqlalchemy.engine", "botocore.auth"):
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger(name), level)("said %s", level)
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("level", "ours", "theirs"),
    [("debug", 4, 2), ("info", 3, 2), ("warning", 2, 2), ("error", 1, 1)],
)
def test_levels(level: str, form: str, ours: int, theirs: int) -> None:
    """The level is that of this gateway; libraries, which tell what they work on, never say more
    than warnings."""
    command = [sys.executable, "-c", SPEAKING, level, form]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    lines = io.StringIO(done.stderr).readlines()
    assert sum("embedway.access" in line for line in lines) == ours
    assert sum("sqlalchemy" in line for line in lines) == theirs
    assert sum("botocore" in line for line in lines) == theirs
    if form == "json":
        assert {json.loads(line)["logger"] for line in lines} >= {"embedway.access"}
