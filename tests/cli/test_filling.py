from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from embedway.cli.filling import Filled, Limits, fill
from embedway.cli.journal import Header, Journal, digest, open_journal
from embedway.cli.readers import Row
from embedway.cli.stop import Stop
from embedway.errors import EmbedError, InputTooLong, UpstreamRateLimited
from embedway.types import EmbedResponse
from tests.fakes import make_request, make_vector, respond

HEADER = Header(model="m/a", dimensions=8)


class Model:
    """Answers when it is told to; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.counted = asyncio.Semaphore(0)
        self.errors: dict[str, EmbedError] = {}
        self.holds: dict[str, asyncio.Event] = {}

    async def __call__(self, texts: tuple[str, ...]) -> EmbedResponse:
        """The deterministic vectors, unless one of the texts is to fail or to be held."""
        self.asked.append(texts)
        self.counted.release()
        for text in texts:
            if text in self.holds:
                await self.holds[text].wait()
        for text in texts:
            if text in self.errors:
                raise self.errors[text]
        return respond(make_request(*texts))

    async def was_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        for _ in range(count):
            await self.counted.acquire()


@pytest.fixture
def journal() -> Iterator[Journal]:
    """An empty journal."""
    opened = open_journal(HEADER, None)
    yield opened
    opened.close()


def rows(*texts: str) -> list[Row]:
    """Rows of these texts."""
    return [Row(f"line {number}", text) for number, text in enumerate(texts, 1)]


async def go(
    model: Model, journal: Journal, *texts: str, inputs: int = 2, requests: int = 2
) -> list[Filled]:
    """Fill, and what was told."""
    told: list[Filled] = []
    limits = Limits(inputs=inputs, requests=requests)
    await fill(rows(*texts), journal, model, limits, lambda: 0.0, told.append)
    return told


async def test_each_text_is_asked_for_once(journal: Journal) -> None:
    """A text that comes again, in the same request or later, costs nothing."""
    model = Model()
    told = await go(model, journal, *"abaacab")
    assert model.asked == [("a", "b"), ("c",)]
    assert [row.text for filled in told for _, row in filled.rows] == list("abaacab")
    for text in "abc":
        assert journal.vector(digest(text)) == make_vector(text)


async def test_what_is_known_is_not_asked_for(journal: Journal) -> None:
    """A second run asks for what is new only."""
    await go(Model(), journal, "a", "b")
    model = Model()
    told = await go(model, journal, "a", "b", "c")
    assert model.asked == [("c",)]
    assert [len(filled.new) for filled in told] == [1]
    await go(model, journal, "a", "b", "c")
    assert model.asked == [("c",)]


async def test_requests_are_bounded_in_bytes(journal: Journal) -> None:
    """Long texts go in smaller requests; a longer one than fits goes alone."""
    model = Model()
    texts = ("a" * 120_000, "b" * 120_000, "c", "d" * 300_000, "e")
    await go(model, journal, *texts, inputs=100)
    assert [tuple(text[0] for text in asked) for asked in model.asked] == [
        ("a",),
        ("b", "c"),
        ("d",),
        ("e",),
    ]


async def test_rows_are_told_of_in_bounded_batches(journal: Journal) -> None:
    """However many repetitions there are, memory holds a batch of rows."""
    told = await go(Model(), journal, *["a"] * 10_000)
    assert [len(filled.rows) for filled in told] == [4096, 4096, 1808]


async def test_requests_run_side_by_side_and_are_told_in_order(journal: Journal) -> None:
    """The second request does not wait for the first, but is told of after it."""
    model = Model()
    model.holds = {"a": asyncio.Event()}
    task = asyncio.create_task(go(model, journal, "a", "b", "c", inputs=1, requests=2))
    await model.was_asked(2)
    assert model.asked == [("a",), ("b",)]
    model.holds["a"].set()
    told = await task
    assert [filled.rows[0][1].text for filled in told] == ["a", "b", "c"]


async def test_a_row_is_blamed_by_its_place(journal: Journal) -> None:
    """The error names the row of the input, not the position in our request."""
    model = Model()
    model.errors = {"c": InputTooLong("input[1] has 9 tokens, too many.", param="input[1]")}
    with pytest.raises(Stop, match=r"^line 5 has 9 tokens, too many\.$"):
        await go(model, journal, "a", "b", "b", "d", "c", inputs=2, requests=1)


async def test_another_error_comes_as_it_is(journal: Journal) -> None:
    """An error that is not about a row keeps its class, and what was paid for is kept."""
    model = Model()
    error = UpstreamRateLimited("openai: too many requests", provider="openai")
    model.errors = {"a": error}
    with pytest.raises(UpstreamRateLimited) as caught:
        await go(model, journal, "a", "b", inputs=1, requests=2)
    assert caught.value is error
    assert digest("a") not in journal
    assert digest("b") in journal


async def test_an_error_in_the_input_waits_for_what_is_in_flight(journal: Journal) -> None:
    """When a row cannot be read, the answers that are under way are kept."""

    def broken() -> Iterator[Row]:
        yield from rows("a", "b")
        raise Stop("line 3: not UTF-8")

    with pytest.raises(Stop, match="line 3"):
        await fill(
            broken(), journal, Model(), Limits(inputs=1, requests=8), lambda: 0.0, lambda _: None
        )
    assert len(journal) == 1


async def test_cancelled(journal: Journal) -> None:
    """Cancelled, it keeps what has come and leaves no request behind."""
    model = Model()
    model.holds = {"a": asyncio.Event(), "c": asyncio.Event()}
    task = asyncio.create_task(go(model, journal, "a", "b", "c", inputs=1, requests=3))
    await model.was_asked(3)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [text for text in "abc" if digest(text) in journal] == ["b"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_time_of_a_request(journal: Journal) -> None:
    """A batch says how long its own request took, and zero if none was needed."""
    times = iter([1.0, 1.5])
    told: list[Filled] = []
    limits = Limits(inputs=1, requests=1)
    for _ in range(2):
        await fill(rows("a"), journal, Model(), limits, lambda: next(times), told.append)
    assert [filled.seconds for filled in told] == [0.5, 0.0]
