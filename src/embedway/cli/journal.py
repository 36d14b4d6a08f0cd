"""Vectors on disk by the digest of their text, so that an interrupted run can go on.

The file is a JSON line that says what the vectors are, then records of one size, only ever added
to: digest, checksum, vector. Whatever an interruption left unfinished at the end is dropped.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import orjson
from msgspec import Struct, structs

from embedway.cli.stop import Stop
from embedway.types import Vector

DIGEST_BYTES = 16  # two different texts get the same one with a chance of 2^-128
_CHECKSUM_BYTES = 4
_KIND = "embedway journal 1"
_LONGEST_HEADER = 4096


class Header(Struct, frozen=True, kw_only=True):
    """What decides the vectors of a run besides the texts."""

    model: str
    """Canonical."""
    dimensions: int
    input_type: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        parts = [self.model, f"{self.dimensions} dimensions"]
        parts += [f"input type {self.input_type}"] if self.input_type else []
        parts += [f"revision {self.revision}"] if self.revision else []
        return ", ".join(parts)


def digest(text: str) -> bytes:
    """The name of a text's vector; DIGEST_BYTES long."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


class Journal:
    """Open it with `open_journal`. Vectors are found by their text's digest."""

    def __init__(self, header: Header, path: Path | None) -> None:
        self.header = header
        self.path = path
        """None: an unnamed temporary file."""
        self._file: BinaryIO | None = None
        self._start = 0
        self._positions: dict[bytes, int] = {}
        self._records = 0
        self._record_bytes = DIGEST_BYTES + _CHECKSUM_BYTES + 4 * header.dimensions

    def __contains__(self, name: bytes) -> bool:
        return name in self._positions

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, vectors: Iterable[tuple[bytes, Vector]]) -> None:
        """Write digests with their vectors. The file is made at the first call, so that a run
        that fails at once leaves nothing behind."""
        records: list[bytes] = []
        for name, vector in vectors:
            assert len(vector) == 4 * self.header.dimensions, "records are of one size"
            if name not in self._positions:
                self._positions[name] = self._records + len(records)
                records.append(name + _checksum(name, vector) + vector)
        if not records:
            return
        file, data = self._file, b"".join(records)
        if file is None:
            file = self._file = self._create()
            line = _header_line(self.header)
            self._start = len(line)
            data = line + data
        file.seek(0, os.SEEK_END)
        # One call, unbuffered: what is done is safe even if the process is killed.
        _write_whole(file, data)
        self._records += len(records)

    def vector(self, name: bytes) -> Vector:
        """The vector of that digest. Raises KeyError if there is none."""
        position, file = self._positions[name], self._file
        assert file is not None, "what has a position was written"
        file.seek(self._start + position * self._record_bytes)
        record = file.read(self._record_bytes)
        if not _is_sound(record) or record[:DIGEST_BYTES] != name:
            raise Stop(f"{self.path}: was changed by another program; use --restart")
        return record[DIGEST_BYTES + _CHECKSUM_BYTES :]

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Close and delete it, when its vectors are elsewhere."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def load(self) -> None:
        """Read the file that an earlier run left, if there is one."""
        if self.path is None or not self.path.exists():
            return
        file = self.path.open("r+b", buffering=0)
        try:
            _lock(file, self.path)
            self._start = self._check_header(file)
            end = self._read_records(file)
            file.truncate(end)
        except BaseException:
            file.close()
            raise
        self._file = file

    def _create(self) -> BinaryIO:
        if self.path is None:
            return tempfile.TemporaryFile("w+b", buffering=0)
        try:
            file = self.path.open("x+b", buffering=0)
        except FileExistsError:
            raise _is_busy(self.path) from None
        _lock(file, self.path)
        return file

    def _check_header(self, file: BinaryIO) -> int:
        """The header's length. Raises Stop if the vectors in *file* are not of our kind."""
        head = file.read(_LONGEST_HEADER)
        line, end, _ = head.partition(b"\n")
        expected = _header_line(self.header)
        if not end and expected.startswith(head):  # killed while it was made
            file.truncate(0)
            file.seek(0)
            file.write(expected)
            return len(expected)
        try:
            found = orjson.loads(line)
            if found.pop("kind") != _KIND:
                raise ValueError
            header = Header(**found)
        except (ValueError, TypeError, AttributeError, KeyError):
            raise Stop(f"{self.path}: not made by 'embedway embed'; move it away") from None
        refuse_other(self.header, header, str(self.path))
        return len(line) + 1

    def _read_records(self, file: BinaryIO) -> int:
        """Learn every sound record; returns where the last one ends."""
        end = self._start
        file.seek(end)
        for record in _records(file, self._record_bytes):
            if not _is_sound(record):
                break
            self._positions[record[:DIGEST_BYTES]] = self._records
            self._records += 1
            end += self._record_bytes
        return end


def open_journal(header: Header, path: Path | None) -> Journal:
    """A journal for vectors of *header*, with what *path* already holds.

    Raises Stop if the file holds vectors of another kind, or another run writes to it.
    """
    journal = Journal(header, path)
    journal.load()
    return journal


def refuse_other(wanted: Header, found: Header, place: str) -> None:
    """Raise Stop if the vectors in *place* may not be mixed with those wanted."""
    if wanted != found:
        raise Stop(
            f"{place} holds vectors of {found}, but this run asks for {wanted}. "
            "Give another -o, or --restart to embed everything again"
        )


def _header_line(header: Header) -> bytes:
    return orjson.dumps({"kind": _KIND, **structs.asdict(header)}) + b"\n"


def _checksum(name: bytes, vector: bytes) -> bytes:
    return zlib.crc32(vector, zlib.crc32(name)).to_bytes(_CHECKSUM_BYTES, "little")


def _is_sound(record: bytes) -> bool:
    middle = DIGEST_BYTES + _CHECKSUM_BYTES
    name, vector = record[:DIGEST_BYTES], record[middle:]
    return record[DIGEST_BYTES:middle] == _checksum(name, vector)


def _records(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Whole records, many at a read; a rest that is shorter than one is left out."""
    rest = b""
    while data := file.read(1024 * size):
        data = rest + data
        whole = len(data) - len(data) % size
        yield from (data[start : start + size] for start in range(0, whole, size))
        rest = data[whole:]


def _write_whole(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a raw write may take less than it is given
        view = view[file.write(view) :]


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep a second run away; the system frees the lock however this process ends."""
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise _is_busy(path) from None


def _is_busy(path: Path) -> Stop:
    return Stop(f"{path}: another 'embedway embed' is writing to it")
