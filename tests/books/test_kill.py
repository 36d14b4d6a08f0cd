"""Processes that are killed in the middle of their work: no attempt is missing from the book."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.books.killing import kill_again_and_again


@pytest.mark.timeout(300)  # 25 starts of a process
async def test_killed_again_and_again(tmp_path: Path) -> None:
    """After 25 kills under load every billed attempt is in the book, none twice, and no more are
    unknown than were in flight; a minute later nothing is reserved any more."""
    await kill_again_and_again(tmp_path, 25)
