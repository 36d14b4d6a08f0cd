from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from embedway.cli.readers import READERS, Row, decode
from embedway.cli.stop import Stop


def read(path: Path, column: str | None = None) -> list[Row]:
    """All rows of *path*."""
    return list(READERS[path.suffix](path, column))


def texts(path: Path, column: str | None = None) -> list[str]:
    """Their texts."""
    return [row.text for row in read(path, column)]


def write(path: Path, data: str | bytes) -> Path:
    """A file with that content."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb", ["a", "b"]),
        ("\ufeffa\n\ufeffb", ["a", "\ufeffb"]),
        ("a\n\n b \n", ["a", "", " b "]),
        ("a\u2028b\x0bc\x0cd\x85e\n", ["a\u2028b\x0bc\x0cd\x85e"]),
        ("", []),
    ],
)
def test_txt(work: Path, data: str, expected: list[str]) -> None:
    """A line ends with LF or CRLF; other separators are part of the text."""
    assert texts(write(work / "a.txt", data)) == expected


def test_txt_places(work: Path) -> None:
    """Each row knows where it stands."""
    path = write(work / "a.txt", "a\nb")
    assert read(path)[1] == Row(f"{path}, line 2", "b")


@pytest.mark.parametrize(
    ("data", "column", "expected"),
    [
        ("text,n\na,1\nb,2\n", None, [("a", None), ("b", None)]),
        ("id,text\n7,a\n", None, [("a", "7")]),
        ("id,body\n7,a\n", None, [("a", "7")]),
        ("text,body\na,b\n", "body", [("b", None)]),
        ('text\n"two\nlines, and a comma"\n', None, [("two\nlines, and a comma", None)]),
        ("\ufefftext\na\n", None, [("a", None)]),
        ("text\n" + "x" * 200_000 + "\n", None, [("x" * 200_000, None)]),
    ],
)
def test_csv(
    work: Path, data: str, column: str | None, expected: list[tuple[str, str | None]]
) -> None:
    """The column is the named one, else `text`, else the only one beside `id`."""
    assert [(row.text, row.id) for row in read(write(work / "a.csv", data), column)] == expected


@pytest.mark.parametrize(
    ("data", "column", "expected"),
    [
        ('{"text": "a", "id": 7}\n\n{"id": "x", "text": "b"}\n', None, [("a", 7), ("b", "x")]),
        ('{"body": "a"}\n', None, [("a", None)]),
        ('{"body": "a", "text": "b"}\n', "body", [("a", None)]),
        ('"a"\n"b"', None, [("a", None), ("b", None)]),
        ('\ufeff{"text": "a", "id": 1.5}', None, [("a", "1.5")]),
        ('{"text": "a", "id": true}', None, [("a", "True")]),
        ('{"text": "a", "id": null}', None, [("a", None)]),
    ],
)
def test_jsonl(
    work: Path, data: str, column: str | None, expected: list[tuple[str, object]]
) -> None:
    """A line is an object with the column, or a text; blank lines are nothing."""
    assert [(row.text, row.id) for row in read(write(work / "a.jsonl", data), column)] == expected
    assert READERS[".ndjson"] is READERS[".jsonl"]


def test_parquet(work: Path) -> None:
    """Rows of all row groups come in order, with their ids."""
    path = work / "a.parquet"
    table = pyarrow.table(
        {"id": range(3000), "text": [f"t{i}" for i in range(3000)], "n": [0] * 3000}
    )
    pyarrow.parquet.write_table(table, path, row_group_size=700)
    rows = read(path)
    assert [(row.id, row.text) for row in rows] == [(i, f"t{i}") for i in range(3000)]
    assert rows[2999].place == f"{path}, row 3000"


@pytest.mark.parametrize(
    ("name", "data", "column", "told"),
    [
        ("a.txt", b"a\n\xffb\n", None, "line 2: not UTF-8 (byte 0xff)"),
        ("a.csv", "a,b\n1,2\n", None, "no column 'text'; give --column. It has: a, b"),
        ("a.csv", "a,b\n1,2\n", "c", "no column 'c'. It has: a, b"),
        ("a.csv", "", None, "It has: none"),
        ("a.csv", "text,n\na,1\n\n,\n", "n", "line 4: the text is empty"),
        ("a.csv", "n,text\n1\n", None, "line 2: column 'text' holds nothing instead of a text"),
        ("a.csv", b"text\na\n\xff\n", None, "not UTF-8"),
        ("a.csv", 'text\n"a\n', None, "not valid CSV"),
        ("a.jsonl", "{", None, "line 1: not valid JSON"),
        ("a.jsonl", "\n[1]", None, "line 2: neither a JSON object nor a JSON text"),
        ("a.jsonl", '{"a": "", "b": ""}', None, "no column 'text'; give --column. It has: a, b"),
        ("a.jsonl", '{"text": 7}', None, "line 1: column 'text' holds a int instead of a text"),
        ("a.jsonl", '{"text": "a"}\n{"x": "a"}', None, "line 2: column 'text' holds nothing"),
        ("a.jsonl", '"\\ud800"', None, "line 1: not valid JSON"),
        ("a.parquet", b"PAR1 no", None, "not a readable Parquet file"),
    ],
)
def test_what_cannot_be_read(
    work: Path, name: str, data: str | bytes, column: str | None, told: str
) -> None:
    """A row or file that cannot be embedded is named; nothing is guessed."""
    from embedway.cli.corpus import corpus

    path = write(work / name, data)
    with pytest.raises(Stop) as caught:
        list(corpus([str(path)], [], column=column, is_whole=False, stdin=None).rows())
    assert str(caught.value).startswith(str(path))
    assert told in str(caught.value)


def test_the_byte_order_mark_only_at_the_start() -> None:
    """Elsewhere it is a character of the text."""
    data = "\ufeffa".encode()
    assert decode(data, "x") == "a"
    assert decode(data, "x", is_start=False) == "\ufeffa"
