from __future__ import annotations

from pathlib import Path

import pytest

from embedway.cli.journal import Header, Journal, digest, open_journal, refuse_other
from embedway.cli.stop import Stop
from embedway.vectors import from_numbers

HEADER = Header(model="m/a", dimensions=4)
RECORD_BYTES = 16 + 4 + 16
NAMES = [digest(f"text {number}") for number in range(3)]
VECTORS = [from_numbers([number, 1, 2, 3]) for number in range(3)]


@pytest.fixture
def path(work: Path) -> Path:
    """A journal with three vectors."""
    file = work / "out.npy.partial"
    journal = open_journal(HEADER, file)
    journal.add(zip(NAMES[:1], VECTORS[:1], strict=True))
    journal.add(zip(NAMES, VECTORS, strict=True))
    journal.close()
    return file


def found(journal: Journal) -> list[int]:
    """Which of the three it has, each checked against its vector."""
    here = [number for number in range(3) if NAMES[number] in journal]
    assert [journal.vector(NAMES[number]) for number in here] == [VECTORS[n] for n in here]
    assert len(journal) == len(here)
    journal.close()
    return here


def test_kept(path: Path) -> None:
    """What was added is there after the file is opened again, once each."""
    assert found(open_journal(HEADER, path)) == [0, 1, 2]
    assert path.stat().st_size % RECORD_BYTES == len(path.read_bytes().split(b"\n")[0] + b"\n") % (
        RECORD_BYTES
    )


def test_nothing_is_made_before_the_first_vector(work: Path) -> None:
    """A run that fails at once leaves no file."""
    journal = open_journal(HEADER, work / "x.partial")
    journal.add([])
    journal.close()
    assert list(work.iterdir()) == []


def test_unnamed() -> None:
    """A journal without a name works alike, and leaves nothing."""
    journal = open_journal(HEADER, None)
    journal.add(zip(NAMES, VECTORS, strict=True))
    assert journal.vector(NAMES[1]) == VECTORS[1]
    with pytest.raises(KeyError):
        journal.vector(digest("another"))
    journal.remove()


@pytest.mark.parametrize("cut", [1, 5, RECORD_BYTES - 1])
def test_a_truncated_tail_is_dropped(path: Path, cut: int) -> None:
    """What an interruption left unfinished is dropped, and the next vector takes its place."""
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    journal = open_journal(HEADER, path)
    assert NAMES[2] not in journal
    journal.add([(NAMES[2], VECTORS[2])])
    assert found(journal) == [0, 1, 2]
    assert path.read_bytes() == data


@pytest.mark.parametrize("position", range(1, RECORD_BYTES + 1))
def test_a_damaged_record_is_dropped(path: Path, position: int) -> None:
    """A record with any byte wrong does not count."""
    data = bytearray(path.read_bytes())
    data[-position] ^= 1
    path.write_bytes(bytes(data))
    assert found(open_journal(HEADER, path)) == [0, 1]


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_truncated_header_is_written_again(path: Path, length: int) -> None:
    """A journal that was killed at its birth is begun again."""
    path.write_bytes(path.read_bytes()[:length])
    journal = open_journal(HEADER, path)
    assert len(journal) == 0
    journal.add(zip(NAMES, VECTORS, strict=True))
    journal.close()
    assert found(open_journal(HEADER, path)) == [0, 1, 2]


@pytest.mark.parametrize("data", [b"hello", b"[1]\n", b"{}\n", b'{"kind":"x"}\n', b"\xff" * 9000])
def test_a_foreign_file_is_not_touched(work: Path, data: bytes) -> None:
    """What we did not make is neither read nor changed."""
    path = work / "x.partial"
    path.write_bytes(data)
    with pytest.raises(Stop, match="not made by 'embedway embed'; move it away"):
        open_journal(HEADER, path)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "m/b"}, "m/b, 4 dimensions"),
        ({"dimensions": 8}, "m/a, 8 dimensions"),
        ({"input_type": "query"}, "m/a, 4 dimensions, input type query"),
        ({"revision": "2"}, "m/a, 4 dimensions, revision 2"),
    ],
)
def test_other_vectors_are_not_mixed(path: Path, changes: dict[str, object], told: str) -> None:
    """Vectors of two spaces never come into one file; the message says both."""
    header = Header(**{"model": "m/a", "dimensions": 4, **changes})
    with pytest.raises(Stop) as caught:
        open_journal(header, path)
    assert str(caught.value) == (
        f"{path} holds vectors of m/a, 4 dimensions, but this run asks for {told}. "
        "Give another -o, or --restart to embed everything again"
    )
    refuse_other(HEADER, HEADER, "x")


def test_one_writer(path: Path) -> None:
    """Two runs never write to one journal at the same time."""
    journal = open_journal(HEADER, path)
    with pytest.raises(Stop, match="another 'embedway embed' is writing to it"):
        open_journal(HEADER, path)
    journal.close()
    open_journal(HEADER, path).close()


def test_one_maker(work: Path) -> None:
    """Two runs that both found no journal do not both make it."""
    first, second = (open_journal(HEADER, work / "x.partial") for _ in range(2))
    first.add([(NAMES[0], VECTORS[0])])
    with pytest.raises(Stop, match="another 'embedway embed' is writing to it"):
        second.add([(NAMES[0], VECTORS[0])])
    first.close()


def test_a_change_from_outside_is_noticed(path: Path) -> None:
    """A vector is given only if it is the text's own."""
    journal = open_journal(HEADER, path)
    data = path.read_bytes()
    record = data[-RECORD_BYTES:]
    path.write_bytes(data[: -2 * RECORD_BYTES] + record + record)
    with pytest.raises(Stop, match="was changed by another program"):
        journal.vector(NAMES[1])
    assert journal.vector(NAMES[2]) == VECTORS[2]
    journal.remove()
    assert not path.exists()
