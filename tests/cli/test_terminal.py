from __future__ import annotations

import io

import pytest

from embedway.cli.terminal import Progress, duration, paint, table
from tests.fakes import FakeClock


class Screen(io.StringIO):
    def isatty(self) -> bool:
        """It is one."""
        return True


def test_table() -> None:
    """Columns are as wide as their widest cell, wide characters counted as two."""
    assert table(("A", "B"), [("x", "12"), ("你好", "3")], right=(1,)) == (
        "A      B\nx     12\n你好   3"
    )


def test_a_table_cannot_move_the_cursor() -> None:
    """A name with control characters does not reach the terminal as it is."""
    assert table(("A",), [("\x1b[2Jx",)]) == "A\n�[2Jx"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (200.0, "3 min 20 s"),
        (7500.0, "2 h 5 min"),
    ],
)
def test_duration(seconds: float, told: str) -> None:
    """A length of time is told in the units that people use."""
    assert duration(seconds) == told


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a terminal gets colours, and not if NO_COLOR is set."""
    assert paint("x", "red", Screen()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Screen()) == "x"


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar tells count, share, speed and the time that is left."""
    monkeypatch.setenv("NO_COLOR", "1")
    clock, screen = FakeClock(), Screen()
    progress = Progress(4000, clock.monotonic, screen)
    clock.advance(2)
    progress.advance(1000)
    assert screen.getvalue() == (
        "\r1,000/4,000 ━━━━━                 25 %  500 texts/s  ETA 6.0 s\x1b[K"
    )


def test_progress_is_drawn_seldom() -> None:
    """Within a tenth of a second the bar is drawn once, and at the end it is gone."""
    clock, screen = FakeClock(), Screen()
    progress = Progress(10, clock.monotonic, screen)
    progress.advance(1)
    drawn = screen.getvalue()
    progress.advance(1)
    assert screen.getvalue() == drawn
    clock.advance(0.1)
    progress.advance(1)
    assert "3/10" in screen.getvalue()
    progress.close()
    assert screen.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(("total", "stream"), [(10, io.StringIO()), (0, Screen())])
def test_no_progress(total: int, stream: io.StringIO) -> None:
    """Where nobody looks, or nothing is to be done, nothing is drawn."""
    progress = Progress(total, FakeClock().monotonic, stream)
    progress.advance(1)
    progress.close()
    assert stream.getvalue() == ""


def test_no_speed_yet() -> None:
    """Before anything is done there is no guess about the end."""
    assert "ETA" not in Progress(10, FakeClock().monotonic, Screen()).line(1001.0)
