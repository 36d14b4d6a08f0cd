"""What the words of the command line stand for: texts, files, standard input.

A corpus is read as a stream and may be read several times, so that it is never held in memory.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from embedway.cli.readers import READERS, Row, decode, read_lines
from embedway.cli.stop import WRONG_USAGE, Stop

STDIN = "-"


class Source(Struct, frozen=True):
    """Rows from one place. `skips_blank`: blank texts are passed over instead of refused."""

    read: Callable[[], Iterator[Row]]
    skips_blank: bool = False


class Piped:
    """Standard input, kept in a temporary file while it is read, so that it can be read again."""

    def __init__(self, stdin: BinaryIO | None, *, is_whole: bool) -> None:
        self._stdin = stdin
        self._is_whole = is_whole
        self._kept: BinaryIO | None = None

    def read(self) -> Iterator[Row]:
        """A row a line, or one row of everything."""
        if self._is_whole:
            data = b"".join(self._lines())
            yield Row("standard input", decode(data, "standard input"))
        else:
            yield from read_lines(self._lines(), "standard input")

    def close(self) -> None:
        """Delete what was kept."""
        if self._kept is not None:
            self._kept.close()

    def _lines(self) -> Iterator[bytes]:
        if self._kept is not None:
            self._kept.seek(0)
            yield from self._kept
            return
        self._kept = tempfile.TemporaryFile("w+b")  # noqa: SIM115 closed by close()
        for line in self._stdin or ():
            self._kept.write(line)
            yield line


class Corpus:
    """All sources, one after the other."""

    def __init__(self, sources: Sequence[Source], files: Sequence[Path], piped: Piped) -> None:
        self._sources = sources
        self._piped = piped
        self.files = tuple(files)
        """The files read, so that none of them is overwritten."""
        self.blank = 0
        """How many blank texts the last reading passed over."""

    def rows(self) -> Iterator[Row]:
        """Every row with a text. Raises Stop naming the first row that has none."""
        self.blank = 0
        for source in self._sources:
            for row in source.read():
                if row.text.strip():
                    yield row
                elif source.skips_blank:
                    self.blank += 1
                else:
                    raise Stop(f"{row.place}: the text is empty")

    def close(self) -> None:
        """Drop what was kept of standard input."""
        self._piped.close()


def corpus(
    words: Sequence[str],
    patterns: Sequence[str],
    *,
    column: str | None,
    is_whole: bool,
    stdin: BinaryIO | None,
) -> Corpus:
    """The corpus of the command line.

    words: texts and files, as `_source` tells them apart. patterns: globs whose files are a text
    each. stdin: what is piped in, None if nothing is; read if there is nothing else, or for `-`.
    """
    if not words and not patterns:
        if stdin is None:
            raise Stop("nothing to embed: give a text or a file, or pipe texts in", WRONG_USAGE)
        words = (STDIN,)
    if is_whole and STDIN not in words:
        raise Stop("--whole is about standard input, which is not read here", WRONG_USAGE)
    files = [Path(word) for word in words if _is_listed_file(word)]
    piped = Piped(stdin, is_whole=is_whole)
    sources = [_source(word, number, column, piped) for number, word in enumerate(words, 1)]
    for pattern in patterns:
        found = _matching(pattern)
        files += found
        sources.append(Source(partial(_whole_files, found), skips_blank=True))
    return Corpus(sources, files, piped)


def _source(word: str, number: int, column: str | None, piped: Piped) -> Source:
    """A word that names a file of a known kind is that file; any other is a text. A word that
    looks like a file but is none of these is refused: its name is hardly meant to be embedded."""
    if word == STDIN:
        return Source(piped.read, skips_blank=True)
    if _is_listed_file(word):
        path = Path(word)
        read = READERS[path.suffix.lower()]
        return Source(lambda: read(path, column), skips_blank=path.suffix.lower() == ".txt")
    if not any(map(str.isspace, word)):
        _refuse_lookalike(word)
    try:
        word.encode()
    except UnicodeEncodeError:
        raise Stop(f"text {number} is not UTF-8", WRONG_USAGE) from None
    return Source(lambda: iter((Row(f"text {number}", word),)))


def _refuse_lookalike(word: str) -> None:
    suffix = Path(word).suffix.lower()
    way = f"to embed the name itself: echo {word} | embedway embed"
    if suffix in READERS:
        raise Stop(f"{word}: no such file ({way})", WRONG_USAGE)
    if suffix and _is_file(word):
        kinds = ", ".join(READERS)
        raise Stop(
            f"{word}: no file of texts ({kinds}); use --files for a file that is one text ({way})",
            WRONG_USAGE,
        )


def _is_listed_file(word: str) -> bool:
    return Path(word).suffix.lower() in READERS and _is_file(word)


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name, or holds NUL: then it is a text
        return False


def _matching(pattern: str) -> list[Path]:
    found = [Path(name) for name in sorted(glob.iglob(pattern, recursive=True))]
    files = [path for path in found if path.is_file()]
    if not files:
        raise Stop(f"--files {pattern}: no file matches", WRONG_USAGE)
    return files


def _whole_files(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        yield Row(str(path), decode(path.read_bytes(), str(path)), str(path))
