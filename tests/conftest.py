"""What many tests share: one running application with the real local model."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import settings

from embedway.server.app import App
from embedway.settings import Settings
from tests.asgi import running

# A shell without job control starts what stands before "&" with SIGINT ignored, and an ignored
# signal is inherited: the gateways that tests interrupt would never notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair, and no law.
settings.register_profile("embedway", deadline=None)
settings.load_profile("embedway")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """An open loopback server in a home of its own, for tests that leave no traces.

    It lives in the event loop of the whole run: a test that uses it must be there, too, with
    `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
    """
    async with running(Settings(home=str(tmp_path_factory.mktemp("home")))) as app:
        yield app
