"""Rows with their vectors to .jsonl, .npy and .parquet, and the vectors back out of them.

Writers take rows one by one, so that a file larger than memory can be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
from msgspec import Struct

from embedway.cli.journal import Header
from embedway.cli.parquet import load_pyarrow, open_parquet
from embedway.cli.readers import Row
from embedway.cli.stop import WRONG_USAGE, Stop
from embedway.types import Vector
from embedway.vectors import FLOAT32, as_array, from_numbers

_ROWS_PER_GROUP = 4096


class Shape(Struct, frozen=True, kw_only=True):
    """What a writer must know before the first row."""

    header: Header
    rows: int
    has_ids: bool
    has_number_ids: bool
    """All ids are whole numbers."""


Results = Iterable[tuple[Row, Vector]]


class Format(Struct, frozen=True):
    """One kind of output. `write` fills the file; `read` gives its vectors in order."""

    write: Callable[[Path, Results, Shape], None]
    read: Callable[[Path], Iterator[Vector]]


def find_format(path: Path) -> Format:
    """The format that the name's ending asks for. Raises Stop if it cannot be written."""
    suffix = path.suffix.lower()
    if (found := FORMATS.get(suffix)) is None:
        raise Stop(f"-o {path}: must end with {', '.join(FORMATS)}", WRONG_USAGE)
    if suffix == ".parquet":
        load_pyarrow()
    return found


def _write_jsonl(path: Path, results: Results, shape: Shape) -> None:
    with path.open("wb") as file:
        for row, vector in results:
            identity = {} if row.id is None else {"id": row.id}
            record = {**identity, "text": row.text, "embedding": as_array(vector)}
            file.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")


def _read_jsonl(path: Path) -> Iterator[Vector]:
    with path.open("rb") as file:
        for line in file:
            yield from_numbers(orjson.loads(line)["embedding"])


def _write_npy(path: Path, results: Results, shape: Shape) -> None:
    """float32, shape (rows, dimensions): what `numpy.save` writes, without holding it."""
    with path.open("wb") as file:
        _write_npy_head(file, (shape.rows, shape.header.dimensions))
        for _, vector in results:
            file.write(vector)


def _write_npy_head(file: BinaryIO, shape: tuple[int, int]) -> None:
    head = {"descr": FLOAT32.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


def _read_npy(path: Path) -> Iterator[Vector]:
    for vector in np.load(path, mmap_mode="r"):
        yield vector.tobytes()


def _write_parquet(path: Path, results: Results, shape: Shape) -> None:
    pyarrow, parquet = load_pyarrow()
    kind = pyarrow.int64() if shape.has_number_ids else pyarrow.string()
    fields = [("id", kind)] if shape.has_ids else []
    vectors = pyarrow.list_(pyarrow.float32(), shape.header.dimensions)
    schema = pyarrow.schema(
        [*fields, ("text", pyarrow.string()), ("embedding", vectors)],
        metadata={"embedway": str(shape.header)},
    )
    iterator = iter(results)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(iterator, _ROWS_PER_GROUP)):
            numbers = np.frombuffer(b"".join(vector for _, vector in group), FLOAT32)
            columns = [
                pyarrow.array([row.text for row, _ in group], pyarrow.string()),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numbers), type=vectors),
            ]
            if shape.has_ids:
                ids = [_parquet_id(row.id, shape) for row, _ in group]
                columns.insert(0, pyarrow.array(ids, kind))
            writer.write_table(pyarrow.table(columns, schema=schema))


def _parquet_id(value: str | int | None, shape: Shape) -> str | int | None:
    return value if value is None or shape.has_number_ids else str(value)


def _read_parquet(path: Path) -> Iterator[Vector]:
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP, columns=["embedding"]):
            column = batch.column(0)
            width = 4 * column.type.list_size
            data = column.flatten().to_numpy().tobytes()
            yield from (data[start : start + width] for start in range(0, len(data), width))


FORMATS: Mapping[str, Format] = {
    ".jsonl": Format(_write_jsonl, _read_jsonl),
    ".npy": Format(_write_npy, _read_npy),
    ".parquet": Format(_write_parquet, _read_parquet),
}
