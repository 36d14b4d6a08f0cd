"""What all faults share: keys in a database, which no test changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedway.clock import SystemClock
from embedway.store.database import open_database
from embedway.store.keys import KeyStore, load_pepper


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyStore]:
    """A store without any key, so that loopback callers are let in."""
    home = tmp_path_factory.mktemp("home")
    engine = open_database(home)
    yield KeyStore(engine, load_pepper(home), SystemClock())
    engine.dispose()
