"""The one door to pyarrow, which is an optional extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedway.cli.stop import Stop


def load_pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`. Raises Stop if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Stop("Parquet files need pyarrow: pip install 'embedway[parquet]'") from None
    return pyarrow, pyarrow.parquet


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`. Raises Stop if it cannot be read."""
    pyarrow, parquet = load_pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pyarrow.ArrowException as error:
        raise Stop(f"{path}: not a readable Parquet file: {error}") from None
