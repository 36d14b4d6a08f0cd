"""Stores of the tests on one file, and vectors that can be checked without knowing their text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from embedway.cached import Cached, Key, Label
from embedway.store.vectors import SqliteVectors
from embedway.vectors import pack_rows
from tests.fakes import FakeClock
from tests.store.store_laws import Counts, make_key

LABEL = Label("openai/small", "openai/small@8", "p1")


class Cache:
    """Opens stores on one file, and remembers them to be closed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "home" / "vectors.db"
        self.clock = FakeClock()
        self.counts = Counts()
        self.opened: list[SqliteVectors] = []

    def open(self, **changes: Any) -> SqliteVectors:
        """One more on the same file."""
        fields = {"max_bytes": 2**24, "ttl_s": 0.0, "clock": self.clock, "count": self.counts}
        store = SqliteVectors(self.path, **{**fields, **changes})
        self.opened.append(store)
        return store

    def make(self, text: object, dimensions: int = 8, label: Label = LABEL) -> tuple[Key, Cached]:
        """A key and its value."""
        key = make_key(label, str(text))
        return key, self.value(key, dimensions)

    def value(self, key: Key, dimensions: int = 8) -> Cached:
        """A value that depends on nothing but the key."""
        numbers = np.random.default_rng(list(key)).standard_normal((1, dimensions))
        return Cached(
            vector=pack_rows(numbers.astype(np.float32))[0],
            tokens=key[0],
            origin=key[:8],
            created_s=int(self.clock.now()),
        )

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and of its log."""
        log = self.path.with_name("vectors.db-wal")
        return self.path.stat().st_size, log.stat().st_size if log.exists() else 0
