"""Files to rows: .txt (a text a line), .csv, .jsonl and .parquet, read as streams."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from embedway.cli.parquet import open_parquet
from embedway.cli.stop import WRONG_USAGE, Stop

_TEXT_COLUMN = "text"
_ID_COLUMN = "id"
_LONGEST_FIELD = 10**9  # characters; the csv module's own bound is 131,072


class Row(Struct, frozen=True):
    """One text to embed, with where it stands, for messages."""

    place: str
    text: str
    id: str | int | None = None


Reader = Callable[[Path, str | None], Iterator[Row]]
"""Rows of a file; the second argument is the column that the user named."""


def read_lines(lines: Iterable[bytes], place: str) -> Iterator[Row]:
    """A row a line, blank ones too. Lines end with LF or CRLF and nothing else."""
    for number, line in enumerate(lines, 1):
        where = f"{place}, line {number}"
        yield Row(where, decode(line, where, is_start=number == 1).rstrip("\r\n"))


def decode(data: bytes, place: str, *, is_start: bool = True) -> str:
    """UTF-8 to text, without the byte order mark that some editors put at the start."""
    try:
        return data.decode("utf-8-sig" if is_start else "utf-8")
    except UnicodeDecodeError as error:
        raise Stop(f"{place}: not UTF-8 (byte 0x{data[error.start]:02x})") from None


def _read_txt(path: Path, column: str | None) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from read_lines(file, str(path))


def _read_csv(path: Path, column: str | None) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            chosen = _choose(reader.fieldnames or (), column, path)
            for record in reader:
                yield _row(record, chosen, f"{path}, line {reader.line_num}")
        except UnicodeDecodeError:
            raise Stop(f"{path}, after line {reader.line_num}: not UTF-8") from None
        except csv.Error as error:
            raise Stop(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None


def _read_jsonl(path: Path, column: str | None) -> Iterator[Row]:
    chosen = None
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}, line {number}"
            if not line.strip():
                continue
            record = _decode_json(line.removeprefix(b"\xef\xbb\xbf"), place)
            if isinstance(record, str):
                yield Row(place, record)
            elif isinstance(record, dict):
                chosen = chosen or _choose(record, column, path)
                yield _row(record, chosen, place)
            else:
                raise Stop(f"{place}: neither a JSON object nor a JSON text")


def _decode_json(line: bytes, place: str) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Stop(f"{place}: not valid JSON: {error}") from None


def _read_parquet(path: Path, column: str | None) -> Iterator[Row]:
    with open_parquet(path) as file:
        names = file.schema_arrow.names
        chosen = _choose(names, column, path)
        columns = [name for name in (_ID_COLUMN, chosen) if name in names]
        number = 0
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for record in batch.to_pylist():
                number += 1
                yield _row(record, chosen, f"{path}, row {number}")


READERS: Mapping[str, Reader] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
}


def _choose(names: Iterable[str], column: str | None, path: Path) -> str:
    """The column that holds the texts: the named one, else `text`, else the only one."""
    names = list(names)
    others = [name for name in names if name != _ID_COLUMN]
    wanted = column or (_TEXT_COLUMN if _TEXT_COLUMN in names else None)
    if wanted is None and len(others) == 1:
        return others[0]
    if wanted in names:
        return wanted
    listed = ", ".join(names) or "none"
    problem = f"no column {column!r}" if column else f"no column {_TEXT_COLUMN!r}; give --column"
    raise Stop(f"{path}: {problem}. It has: {listed}", WRONG_USAGE)


def _row(record: Mapping[str, Any], column: str, place: str) -> Row:
    text = record.get(column)
    if not isinstance(text, str):
        what = "nothing" if text is None else f"a {type(text).__name__}"
        raise Stop(f"{place}: column {column!r} holds {what} instead of a text")
    found = record.get(_ID_COLUMN)
    is_plain = found is None or (isinstance(found, (str, int)) and not isinstance(found, bool))
    return Row(place, text, found if is_plain else str(found))
