from __future__ import annotations

import io
from pathlib import Path

import pytest

from embedway.cli.corpus import Corpus, corpus
from embedway.cli.stop import Stop


def make(
    *words: str, files: tuple[str, ...] = (), stdin: bytes | None = None, whole: bool = False
) -> Corpus:
    """The corpus of these words."""
    piped = None if stdin is None else io.BytesIO(stdin)
    return corpus(words, files, column=None, is_whole=whole, stdin=piped)


def texts(made: Corpus) -> list[str]:
    """Its texts."""
    return [row.text for row in made.rows()]


def test_words_are_texts(work: Path) -> None:
    """What is no file is a text, even if it names a folder or has a dot."""
    (work / "docs").mkdir()
    long, odd = "x" * 5000 + ".md", "a\0b.md"
    words = ("hello", "docs", "3.14", "see a.txt", "no.such", long, odd)
    assert texts(make(*words)) == list(words)


def test_files_and_texts_together(work: Path) -> None:
    """An existing file of a known kind is read; the order is that of the words."""
    (work / "a.txt").write_text("one\n\ntwo\n")
    (work / "B.JSONL").write_text('"three"\n')
    made = make("zero", "a.txt", "B.JSONL", "four")
    assert texts(made) == ["zero", "one", "two", "three", "four"]
    assert made.blank == 1
    assert made.files == (Path("a.txt"), Path("B.JSONL"))


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("none.txt", "none.txt: no such file (to embed the name itself: echo none.txt | embedway"),
        ("notes.md", "notes.md: no file of texts (.txt, .csv, .jsonl, .ndjson, .parquet); use --f"),
        ("\udcff", "text 1 is not UTF-8"),
    ],
)
def test_lookalikes(work: Path, word: str, told: str) -> None:
    """The name of a file is not embedded by mistake."""
    (work / "notes.md").write_text("x")
    with pytest.raises(Stop) as caught:
        make(word)
    assert str(caught.value).startswith(told)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("word", ["", " ", "\n"])
def test_an_empty_text(word: str) -> None:
    """A text of nothing is refused."""
    with pytest.raises(Stop, match="text 1: the text is empty"):
        texts(make(word))


def test_stdin_by_lines() -> None:
    """Without words standard input is read, a text a line, and can be read again."""
    made = make(stdin=b"one\r\n\ntwo")
    assert texts(made) == ["one", "two"]
    assert texts(made) == ["one", "two"]
    assert made.blank == 1
    made.close()


def test_stdin_whole() -> None:
    """With --whole standard input is one text."""
    made = make("-", stdin=b"one\n\ntwo\n", whole=True)
    assert [texts(made), texts(made)] == [["one\n\ntwo\n"]] * 2
    made.close()


def test_stdin_is_left_alone() -> None:
    """With words, standard input is read only where `-` stands."""
    stdin = io.BytesIO(b"one")
    assert texts(corpus(["a"], [], column=None, is_whole=False, stdin=stdin)) == ["a"]
    assert stdin.read() == b"one"
    made = make("a", "-", "b", stdin=b"one")
    assert texts(made) == ["a", "one", "b"]
    made.close()


@pytest.mark.parametrize(
    ("words", "whole", "told"),
    [
        ((), False, "nothing to embed: give a text or a file, or pipe texts in"),
        (("a",), True, "--whole is about standard input, which is not read here"),
    ],
)
def test_no_input(words: tuple[str, ...], whole: bool, told: str) -> None:
    """Where there is nothing to read, that is said instead of waiting for it."""
    with pytest.raises(Stop, match=told):
        make(*words, whole=whole)


def test_a_dash_without_stdin() -> None:
    """A dash where a person sits has nothing to give."""
    made = make("-")
    assert texts(made) == []
    made.close()


def test_globs(work: Path) -> None:
    """Each matching file is a text with its path as id, in the order of the names."""
    (work / "sub").mkdir()
    (work / "sub" / "b.md").write_text("\ufefftwo\nlines")
    (work / "a.md").write_text("one")
    (work / "c.md").write_text(" \n")
    made = make(files=("**/*.md", "sub/*.md"))
    rows = list(made.rows())
    assert [(row.id, row.text) for row in rows] == [
        ("a.md", "one"),
        ("sub/b.md", "two\nlines"),
        ("sub/b.md", "two\nlines"),
    ]
    assert made.blank == 1
    assert Path("a.md") in made.files


def test_a_glob_without_files(work: Path) -> None:
    """A pattern that matches no file is a mistake, not an empty input."""
    (work / "x.md").mkdir()
    with pytest.raises(Stop, match=r"--files \*.md: no file matches"):
        make(files=("*.md",))


def test_a_glob_with_a_binary_file(work: Path) -> None:
    """A file that is no text is named."""
    (work / "a.bin").write_bytes(b"\x80\x81")
    with pytest.raises(Stop, match=r"a\.bin: not UTF-8"):
        texts(make(files=("*",)))
