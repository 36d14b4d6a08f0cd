"""How the tests run the command line, and what they put in place of its gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from embedway.ids import Ids
from tests.fakes import FakeClock


@dataclass(frozen=True)
class Ended:
    """What one run of the command line left."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def install(embedder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `embedway embed` ask *embedder*, whatever the settings say."""
    clock = FakeClock()

    @asynccontextmanager
    async def open_runtime(*_: object, **__: object) -> AsyncIterator[object]:
        yield SimpleNamespace(gateway=embedder, clock=clock, ids=Ids(clock))

    monkeypatch.setattr("embedway.cli.job.open_runtime", open_runtime)
