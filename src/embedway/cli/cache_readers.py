"""Exported vectors out of files, each row checked. Raises Stop naming the first one that is wrong.

Told from a file of texts by what its first row has.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from embedway.cli.cache_files import beside
from embedway.cli.parquet import open_parquet
from embedway.cli.stop import Stop
from embedway.types import Vector
from embedway.vector_files import Entry, Row, Unsound, make_entry, read_head, read_line
from embedway.vectors import FLOAT32

_MARKS = {"key", "check"}
"""Names that every row of an export has, and no sensible file of texts."""
_ROWS_AT_ONCE = 1024


def find_export(path: Path) -> Iterator[Entry] | None:
    """The rows of *path*, in order, if it is an export; its name does not matter."""
    with path.open("rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return _read_npy(path)
    if magic[:4] == b"PAR1":
        return _read_parquet(path) if _columns(path) >= _MARKS else None
    return _read_jsonl(path) if _is_marked(path) else None


def _columns(path: Path) -> set[str]:
    with open_parquet(path) as file:
        return set(file.schema_arrow.names)


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"")
    try:
        first = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(first, dict) and set(first) >= _MARKS


def _read_jsonl(path: Path) -> Iterator[Entry]:
    for place, line in _lines(path):
        try:
            yield read_line(line)
        except Unsound as error:
            raise _refusal(place, error) from None


def _read_npy(path: Path) -> Iterator[Entry]:
    matrix = _open_matrix(path)
    number = 0
    for place, line in _lines(beside(path)):
        if number == len(matrix):
            raise Stop(f"{place}: {path} has {number} rows only; nothing more is stored")
        try:
            yield read_head(line, matrix[number].tobytes())
        except Unsound as error:
            raise _refusal(place, error) from None
        number += 1
    if number < len(matrix):
        raise Stop(f"{beside(path)}: tells of {number} rows, but {path} has {len(matrix)}")


def _open_matrix(path: Path) -> Any:
    """The matrix, not read yet. Never unpickles anything."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Stop(f"{path}: not a readable .npy file: {error}") from None
    if matrix.dtype != FLOAT32 or matrix.ndim != 2:
        raise Stop(f"{path}: not a matrix of float32")
    return matrix


def _read_parquet(path: Path) -> Iterator[Entry]:
    number = 0
    with open_parquet(path) as file:
        if wrong := _columns(path) ^ {*Row.__struct_fields__, "vector"}:
            raise Stop(f"{path}: these columns are missing or too many: {', '.join(sorted(wrong))}")
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
            vectors = _vectors(batch.column("vector"), path)
            for record in batch.drop_columns(["vector"]).to_pylist():
                number += 1
                try:
                    yield make_entry(msgspec.convert(record, Row), next(vectors))
                except (Unsound, msgspec.ValidationError) as error:
                    raise _refusal(f"{path}, row {number}", error) from None


def _vectors(column: Any, path: Path) -> Iterator[Vector]:
    """A row's vector each; an empty one where there is none."""
    if str(getattr(column.type, "value_type", "")) != "float":
        raise Stop(f"{path}: column 'vector' holds no lists of float32")
    data = column.flatten().to_numpy(zero_copy_only=False).astype(FLOAT32, copy=False).tobytes()
    start = 0
    for length in column.value_lengths().to_pylist():
        end = start + 4 * (length or 0)
        yield data[start:end]
        start = end


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each line with where it stands, but for blank ones."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"{path}, line {number}", line


def _refusal(place: str, error: Exception) -> Stop:
    return Stop(f"{place}: not a vector as it was exported: {error}")
