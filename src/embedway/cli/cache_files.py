"""Exported vectors to files: .jsonl, .parquet, and .npy with a .npy.jsonl beside it.

A file takes the place of an older one only when it is whole, and only its owner may read it:
vectors tell much of their texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Protocol

import numpy as np
from msgspec.structs import asdict

from embedway.cli.parquet import load_pyarrow
from embedway.cli.stop import Stop
from embedway.vector_files import Entry, Row, make_row, write_head, write_line
from embedway.vectors import FLOAT32, as_array

_ROWS_PER_GROUP = 1024


class Writer(Protocol):
    """Takes the vectors of one file, in order."""

    def add(self, entry: Entry) -> None:
        """One more."""

    def finish(self) -> None:
        """No more follow."""


@contextmanager
def draft(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of *path* once it is whole; otherwise nothing of it stays."""
    with NamedTemporaryFile(
        dir=path.absolute().parent, prefix=f".{path.name}.", suffix=".writing", delete=False
    ) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


class JsonLines:
    """A line each."""

    def __init__(self, path: Path, drafts: ExitStack) -> None:
        self._file = drafts.enter_context(draft(path))

    def add(self, entry: Entry) -> None:
        """Write a line."""
        self._file.write(write_line(entry))

    def finish(self) -> None:
        """All lines are written."""


class Parquet:
    """A row each, the vector as a list of float32."""

    def __init__(self, path: Path, drafts: ExitStack) -> None:
        self._pyarrow, parquet = load_pyarrow()
        text, number = self._pyarrow.string(), self._pyarrow.int64()
        kinds = {"dimensions": number, "tokens": number, "created_s": number}
        kinds["flags"] = self._pyarrow.list_(text)
        fields = [(name, kinds.get(name, text)) for name in Row.__struct_fields__]
        vector = ("vector", self._pyarrow.list_(self._pyarrow.float32()))
        self._schema = self._pyarrow.schema([*fields, vector])
        file = drafts.enter_context(draft(path))
        self._writer = drafts.enter_context(parquet.ParquetWriter(file, self._schema))
        self._rows: list[dict[str, Any]] = []

    def add(self, entry: Entry) -> None:
        """Gather a group of rows, and write it."""
        self._rows.append({**asdict(make_row(entry)), "vector": as_array(entry[2].vector)})
        if len(self._rows) >= _ROWS_PER_GROUP:
            self.finish()

    def finish(self) -> None:
        """Write what was gathered."""
        if self._rows:
            self._writer.write_table(self._pyarrow.Table.from_pylist(self._rows, self._schema))
            self._rows = []


class Npy:
    """A matrix of the vectors of one space, and all else about its rows beside it."""

    def __init__(self, path: Path, drafts: ExitStack) -> None:
        self._file = drafts.enter_context(draft(path))
        self._beside = drafts.enter_context(draft(beside(path)))
        self._space: str | None = None
        self._width = self._rows = 0

    def add(self, entry: Entry) -> None:
        """Write a row of both. Raises Stop if it is of another space than the first."""
        _, label, cached = entry
        if self._space is None:
            self._space, self._width = label.space, len(cached.vector) // 4
            self._write_head()
        elif label.space != self._space:
            raise Stop(f"vectors of {label.space} and {self._space} do not go into one matrix")
        self._file.write(cached.vector)
        self._beside.write(write_head(entry))
        self._rows += 1

    def finish(self) -> None:
        """Say how many rows came: numpy leaves room in the head for that number to grow."""
        self._file.seek(0)
        self._write_head()

    def _write_head(self) -> None:
        shape = (self._rows, self._width)
        head = {"descr": FLOAT32.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, head)


def beside(path: Path) -> Path:
    """The file that tells about the rows of a matrix."""
    return path.with_name(f"{path.name}.jsonl")


WRITERS: Mapping[str, Callable[[Path, ExitStack], Writer]] = {
    "jsonl": JsonLines,
    "parquet": Parquet,
    "npy": Npy,
}
