"""What is printed for people: tables, states in colour, and a progress bar."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import TextIO

from embedway.origins import is_colour_wanted

_COLOURS = {"green": 32, "yellow": 33, "red": 31, "dim": 2}
_BAR_CELLS = 20
_REDRAW_S = 0.1


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is looking at *stream*."""
    return stream.isatty()


def paint(text: str, colour: str, stream: TextIO) -> str:
    """*text* in that colour if *stream* is a terminal and NO_COLOR is not set."""
    if not is_terminal(stream) or not is_colour_wanted():
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell; those in *right* are aligned to the right."""
    cells = [list(map(plain, row)) for row in (head, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            _pad(cell, width, is_right=position in right)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def plain(text: str) -> str:
    """*text* without control characters, which could move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide


def _pad(text: str, width: int, *, is_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if is_right else text + space


class Progress:
    """A bar on standard error, drawn at most ten times a second; nothing if nobody looks."""

    def __init__(
        self, total: int, monotonic: Callable[[], float], stream: TextIO | None = None
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_shown = is_terminal(self._stream) and total > 0
        self._total = total
        self._monotonic = monotonic
        self._started = monotonic()
        self._drawn_at = float("-inf")
        self._done = 0

    def advance(self, count: int) -> None:
        """*count* more are done."""
        self._done += count
        now = self._monotonic()
        if self._is_shown and now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            self._stream.write(f"\r{self.line(now)}\x1b[K")
            self._stream.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def line(self, now: float) -> str:
        """Such as `1,200/4,800 ━━━━━               25 %  412 texts/s  ETA 9 s`."""
        share = self._done / self._total
        seconds = max(now - self._started, 1e-9)
        rate = self._done / seconds
        left = f"  ETA {duration((self._total - self._done) / rate)}" if rate > 0 else ""
        filled = int(share * _BAR_CELLS)
        bar = paint("━" * filled, "green", self._stream) + " " * (_BAR_CELLS - filled)
        return (
            f"{self._done:,}/{self._total:,} {bar} {share * 100:3.0f} %  {rate:,.0f} texts/s{left}"
        )


def duration(seconds: float) -> str:
    """A length of time for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
