"""What many tests share: one running application with the real local model."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from _pytest.nodeid import coerce_node_id
from hypothesis import settings
from schemathesis.pytest.plugin import SchemathesisFunction

from embedway.server.app import App
from embedway.settings import Settings
from tests.asgi import running

# A shell without job control starts what stands before "&" with SIGINT ignored, and an ignored
# signal is inherited: the gateways that tests interrupt would never notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair, and no law.
settings.register_profile("embedway", deadline=None)
settings.load_profile("embedway")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test has an id of its own: of several with the same one, pytest-xdist would run one.

    Those that schemathesis makes of one function have its id in pytest 9.2, whatever their name.
    """
    for item in items:
        if isinstance(item, SchemathesisFunction):
            item._id = coerce_node_id(f"{item.nodeid}[{item.operation_label}]")
    ids = Counter(item.nodeid for item in items)
    if len(ids) < len(items):
        doubles = ", ".join(id for id, number in ids.items() if number > 1)
        raise pytest.UsageError(f"These tests would not all run, since they share an id: {doubles}")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """An open loopback server in a home of its own, for tests that leave no traces.

    It lives in the event loop of the whole run: a test that uses it must be there, too, with
    `pytestmark = pytest.mark.asyncio(loop_scope="session")`.
    """
    async with running(Settings(home=str(tmp_path_factory.mktemp("home")))) as app:
        yield app
