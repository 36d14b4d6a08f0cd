"""Gateways of a test's own: one in process with a clock, one in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from embedway.server.app import App
from embedway.settings import Settings
from tests.asgi import running
from tests.fakes import FakeClock


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an open loopback gateway, such as `http://127.0.0.1:40123`."""
    work = tmp_path_factory.mktemp("gateway")
    environ = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    process = subprocess.Popen(
        [sys.executable, "-m", "embedway", "serve", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        cwd=work,
        env={**environ, "EMBEDWAY_HOME": str(work / "home")},
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.fixture
def clock() -> FakeClock:
    """The time of the applications below."""
    return FakeClock()


@pytest_asyncio.fixture(loop_scope="session")
async def own(tmp_path: Path, clock: FakeClock) -> AsyncIterator[App]:
    """A loopback server of the test's own, open until the test creates a key."""
    async with running(Settings(home=str(tmp_path)), clock=clock) as app:
        yield app
