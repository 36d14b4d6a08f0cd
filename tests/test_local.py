"""The model in this process: batched over callers, fair, and unharmed by those who leave."""

import asyncio
import random
import threading

import numpy as np
import pytest

from embedway.errors import InputTooLong, Overloaded
from embedway.local import Local
from embedway.static_model import load_wordllama
from embedway.types import Attempt
from embedway.vectors import normalise, truncate
from tests.fakes import FakeClock, make_request, numbers, until
from tests.texts import varied_texts

NAME = "local/fake"


class FakeModel:
    """Embeds a text as its length and its sum of characters. Remembers its runs; with a gate, a
    run in the thread waits until the test opens it."""

    dimensions = 4

    def __init__(self, gate=None, fails=()):
        self.runs = []
        self.bounded = []
        self.threads = set()
        self._gate = gate
        self._fails = list(fails)

    def least_tokens(self, text):
        """Note the text; a token has at most 16 characters."""
        self.bounded.append(text)
        return -(-len(text) // 16)

    def tokenize(self, texts):
        """One token a byte."""
        self.runs.append(list(texts))
        self.threads.add(threading.current_thread().name)
        if self._gate is not None:
            self._gate.acquire(timeout=30)
        if self._fails and (error := self._fails.pop(0)):
            raise error
        return [list(text.encode()) for text in texts]

    def sum_tokens(self, tokens):
        """Different sums for different texts."""
        return np.array([expected_sum(ids) for ids in tokens], np.float32)


def expected_sum(ids):
    """What stands for the sum of the tokens' vectors."""
    return [1.0, len(ids), sum(ids), ids[0]]


def expected(text, dimensions=4):
    """The vector of a text."""
    return normalise(np.array([expected_sum(list(text.encode()))], np.float32)[:, :dimensions])[0]


def make_local(model, **changes):
    """A Local with small limits."""
    settings = {"max_input_tokens": 100, "batch_inputs": 8, "queue_inputs": 4096, **changes}
    return Local(model, clock=FakeClock(now=5.0), name=NAME, **settings)


def ask(local, *texts, **params):
    """A caller's task."""
    return asyncio.create_task(local(make_request(*texts, model=NAME, **params)))


def assert_right(response, texts, dimensions=4):
    """Each text has its own vector and its own count, in order."""
    assert len(response.embeddings) == len(texts)
    for embedding, text in zip(response.embeddings, texts, strict=True):
        assert numbers(embedding.vector) == pytest.approx(expected(text, dimensions))
        assert embedding.tokens == len(text.encode())
        assert (embedding.source, embedding.cost) == ("local", 0)


@pytest.fixture
async def gated():
    """A Local whose thread stands still until `gate.release()`, and what is in it."""
    gate = threading.Semaphore(0)
    model = FakeModel(gate)
    local = make_local(model)
    yield local, model, gate
    gate.release(10_000)
    await local.close()


async def first_run(local, model):
    """A caller whose text is in the thread now, so that all others wait."""
    task = ask(local, "first")
    await until(lambda: model.runs)
    return task


async def test_vectors():
    """Each text gets its own unit vector, in order, with its tokens and without cost."""
    local = make_local(FakeModel())
    texts = ["one", "two", "three", "two"]

    response = await local(make_request(*texts, model=NAME))

    assert_right(response, texts)
    assert response.params.model == NAME
    assert response.attempts == (
        Attempt(
            model=NAME,
            provider="local",
            upstream_model="fake",
            started_ms=5000,
            ended_ms=5000,
            is_success=True,
            status=200,
        ),
    )
    await local.close()


async def test_off_the_event_loop():
    """All computing happens in one thread that is not the event loop's."""
    model = FakeModel()
    local = make_local(model)
    await asyncio.gather(*(ask(local, f"text {i}") for i in range(30)))
    await local.close()

    assert len(model.threads) == 1
    assert threading.current_thread().name not in model.threads


async def test_waiting_callers_travel_together(gated):
    """All that waits when the thread frees is embedded in one run, whoever asked and at whatever
    dimensions."""
    local, model, gate = gated
    first = await first_run(local, model)
    others = [ask(local, f"text {i}", dimensions=2 + i % 3) for i in range(8)]
    await until(lambda: local._waiting == 9)
    gate.release(2)

    assert_right(await first, ["first"])
    for i, task in enumerate(others):
        assert_right(await task, [f"text {i}"], 2 + i % 3)
    assert model.runs == [["first"], [f"text {i}" for i in range(8)]]


async def test_an_idle_model_starts_at_once(gated):
    """A lone text is not kept waiting for company."""
    local, model, gate = gated
    task = ask(local, "alone")
    await until(lambda: model.runs)
    gate.release()

    assert_right(await task, ["alone"])
    assert model.runs == [["alone"]]


async def test_runs_are_bounded(gated):
    """No run has more texts than it may have, and a long request comes out whole."""
    local, model, gate = gated
    texts = [f"text {i}" for i in range(50)]
    task = ask(local, *texts)
    gate.release(50)

    assert_right(await task, texts)
    assert max(map(len, model.runs)) == 8
    assert [text for run in model.runs for text in run] == texts


async def test_fair_shares(gated):
    """A single text does not wait behind a request of 2,048: it is in the very next run."""
    local, model, gate = gated
    large = ask(local, *(f"large {i}" for i in range(2048)))
    await until(lambda: model.runs)
    small = ask(local, "small")
    await until(lambda: local._waiting == 2049)
    gate.release(2)

    assert_right(await small, ["small"])
    assert "small" in model.runs[1]
    assert not large.done()
    gate.release(2048)
    assert len((await large).embeddings) == 2048


async def test_more_callers_than_room(gated):
    """Where more callers wait than a run has room for, they take turns, oldest first."""
    local, model, gate = gated
    first = await first_run(local, model)
    tasks = [ask(local, f"{i}a", f"{i}b") for i in range(12)]
    await until(lambda: local._waiting == 25)
    gate.release(100)
    await asyncio.gather(first, *tasks)

    firsts = [[text for text in run if text.endswith("a")] for run in model.runs[1:]]
    assert firsts[0] == [f"{i}a" for i in range(8)]
    assert firsts[1][:4] == [f"{i}a" for i in range(8, 12)]
    for i, task in enumerate(tasks):
        assert_right(task.result(), [f"{i}a", f"{i}b"])


async def test_cancelled_texts_are_dropped(gated):
    """What a caller who left had waiting is never computed; the others get theirs."""
    local, model, gate = gated
    first = await first_run(local, model)
    gone, stays = ask(local, "gone 1", "gone 2"), ask(local, "stays")
    await until(lambda: local._waiting == 4)
    gone.cancel()
    gate.release(5)

    assert_right(await stays, ["stays"])
    assert_right(await first, ["first"])
    assert gone.cancelled()
    assert model.runs == [["first"], ["stays"]]


async def test_cancelled_while_computed(gated):
    """A caller who leaves while his text is being computed harms nobody."""
    local, model, gate = gated
    first = await first_run(local, model)
    other = ask(local, "other")
    first.cancel()
    await until(first.cancelled)
    gate.release(5)

    assert_right(await other, ["other"])
    await until(lambda: local._waiting == 0)
    assert not local._jobs


async def test_random_cancels():
    """After 300 callers of whom many leave at random moments, each who stayed has the right
    vectors, and nothing waits or leaks."""
    draw = random.Random(5)
    local = make_local(FakeModel(), batch_inputs=5)
    tasks = []
    for i in range(300):
        texts = [f"caller {i} text {j}" for j in range(draw.randint(1, 12))]
        tasks.append((ask(local, *texts), texts))
        for _ in range(draw.randint(0, 3)):
            await asyncio.sleep(0)
        if draw.random() < 0.5:
            draw.choice(tasks)[0].cancel()
    await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    await until(lambda: local._worker.done())

    stayed = [(task, texts) for task, texts in tasks if not task.cancelled()]
    assert 100 < len(stayed) < 300
    for task, texts in stayed:
        assert_right(task.result(), texts)
    assert local._waiting == 0
    assert not local._jobs
    assert repr(local) == "Local('local/fake', waiting=0)"
    await local.close()


@pytest.mark.parametrize("at", [0, 3, 9])
async def test_too_long(gated, at):
    """A text with too many tokens fails its own caller, naming its position; those who travelled
    with it get theirs."""
    local, model, gate = gated
    first = await first_run(local, model)
    texts = [f"text {i}" for i in range(10)]
    texts[at] = "é" * 51  # 102 tokens, though by its length it might have had four
    bad, good = ask(local, *texts), ask(local, "good")
    await until(lambda: local._waiting == 12)
    gate.release(20)

    with pytest.raises(InputTooLong) as caught:
        await bad
    assert caught.value.param == f"input[{at}]"
    assert "has 102 tokens" in caught.value.message
    assert "at most 100 tokens" in caught.value.message
    assert [a.error for a in caught.value.attempts] == ["token_limit_exceeded"]
    assert_right(await good, ["good"])
    assert_right(await first, ["first"])


async def test_far_too_long():
    """A text that is too long by its number of characters alone is refused without tokenizing it,
    naming its position."""
    model = FakeModel()
    local = make_local(model)

    with pytest.raises(InputTooLong, match=r"input\[1\] has 1601 characters") as caught:
        await local(make_request("short", "x" * 1601, model=NAME))

    assert caught.value.param == "input[1]"
    assert model.runs == []
    assert local._waiting == 0
    await local.close()


async def test_queue_bound(gated):
    """Texts beyond the bound of the queue are refused at once, with a hint when to come back; when
    the queue is empty again, they are let in."""
    local, model, gate = gated
    local._queue_inputs = 10
    first = await first_run(local, model)
    waiting = ask(local, *(f"w{i}" for i in range(9)))
    await until(lambda: local._waiting == 10)

    with pytest.raises(Overloaded) as caught:
        await local(make_request("one more", model=NAME))
    assert caught.value.retry_after_s == 1
    assert [a.status for a in caught.value.attempts] == [503]

    gate.release(50)
    await asyncio.gather(first, waiting)
    assert_right(await local(make_request("one more", model=NAME)), ["one more"])


async def test_close(gated):
    """Closing refuses those who wait and those who come later, and ends when the thread has."""
    local, model, gate = gated
    first = await first_run(local, model)
    waiting = ask(local, "waits")
    await until(lambda: local._waiting == 2)
    closing = asyncio.create_task(local.close())
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await waiting
    with pytest.raises(Overloaded):
        await local(make_request("late", model=NAME))
    assert not closing.done()
    gate.release(5)
    await closing
    await asyncio.gather(first, return_exceptions=True)
    assert model.runs == [["first"]]


async def test_close_unused():
    """A model that was never asked closes at once, and twice."""
    local = make_local(model := FakeModel())
    await local.close()
    await local.close()
    assert model.runs == []


async def test_close_after_cancel(gated):
    """Closing passes over callers who have left already."""
    local, model, gate = gated
    first = await first_run(local, model)
    gone = ask(local, "gone")
    await until(lambda: local._waiting == 2)
    gone.cancel()
    first.cancel()
    await asyncio.gather(gone, first, return_exceptions=True)
    gate.release(5)
    await local.close()

    assert model.runs == [["first"]]


async def test_a_bug_in_the_model():
    """A bug in the model reaches every caller of that run as a bug, and the next run works."""
    gate = threading.Semaphore(0)
    model = FakeModel(gate, fails=[None, ZeroDivisionError("a bug")])
    local = make_local(model)
    first = await first_run(local, model)
    two = [ask(local, "one"), ask(local, "two")]
    await until(lambda: local._waiting == 3)
    gate.release(10)

    assert_right(await first, ["first"])
    for task in two:
        with pytest.raises(ZeroDivisionError):
            await task
    assert_right(await local(make_request("later", model=NAME)), ["later"])
    assert local._waiting == 0
    await local.close()


async def test_the_real_model():
    """The thousand texts, from many callers at once, have the vectors and counts of the model
    asked directly."""
    model, texts = load_wordllama(), varied_texts()
    local = make_local(model, max_input_tokens=65_536, batch_inputs=64)
    callers = [texts[start : start + 7] for start in range(0, 1000, 7)]
    tasks = [ask(local, *own, dimensions=(64, 128, 256)[i % 3]) for i, own in enumerate(callers)]
    responses = await asyncio.gather(*tasks)
    await local.close()

    tokens = model.tokenize(texts)
    sums = model.sum_tokens(tokens)
    got = [embedding for response in responses for embedding in response.embeddings]
    for i, (embedding, ids) in enumerate(zip(got, tokens, strict=True)):
        width = (64, 128, 256)[i // 7 % 3]
        whole = normalise(sums[i : i + 1]).tobytes()
        assert embedding.vector == (whole if width == 256 else truncate(whole, width))
        assert embedding.tokens == len(ids)
