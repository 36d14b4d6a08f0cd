"""The laws of the simulator have teeth: gateways with a fault built in are found out."""

import pytest

from embedway import health, journey, upstream
from embedway.layers import balance, batch, booked, cache, coalesce, deadline, limit, split
from embedway.types import replace
from tests.sim.world import run_seed

MOST_SEEDS = 80
"""So many seeds at most until a planted fault must have shown."""


def pass_through(self, request):
    """A layer that does nothing."""
    return self.inner(request)


def believe_anything(self):
    """Split that learns, but does not know the account's own limit."""
    return self._learned[0] if self._learned else replace(self.limits, inputs=2048)


def charge_everybody(self, value):
    """Coalesce without the rule that one pays."""
    position = self.inputs[value]
    error = self.error
    return error.finished.get(position) if error else self.task.result().embeddings[position]


async def answer_backwards(self, together, embeddings, attempts, share=batch.Batch._share):
    """Batch with the seats mixed up."""
    turned = dict(zip(embeddings, reversed(embeddings.values()), strict=True))
    await share(self, together, turned, attempts)


def keep_backwards(self, label, made, keep=cache.Cache._keep):
    """Cache that keeps each vector under the key of another text."""
    keys, embeddings = [key for key, _ in made], [one for _, one in made]
    keep(self, label, list(zip(reversed(keys), embeddings, strict=True)))


def rest_for_ever(self, begun, error, judge=health.Health._judge):
    """A breaker that never closes again."""
    judge(self, begun, error)
    if self._open_until is not None:
        self._open_until = self._forgiven_at = float("inf")


def never_free(self, slot):
    """Batch that forgets whom it should wake."""
    self._running.discard(slot)


def first_deadline(self, build=journey.Journey.request.fget):
    """Batch whose travellers all have the time of the first."""
    request = build(self)
    call = replace(request.call, deadline=self.aboard[0].request.call.deadline)
    return replace(request, call=call)


async def never_cancel(self, questions):
    """Coalesce that leaves questions alone which nobody waits for."""
    for question in questions:
        question.waiting += 1
    await coalesce.asyncio.wait([question.task for question in questions])


def keep_places(self, begun, error):
    """Health that forgets to count down when a call fails."""


FAULTS = {
    "a breaker rests for ever": (
        (health.Health, "_judge", rest_for_ever),
        "without faults all are served",
    ),
    "failed calls count as in flight": (
        (health.Health, "fail", keep_places),
        "no layer holds on to a caller",
    ),
    "callers are told of accounts they ruled out": (
        (balance.Balance, "_allowed", lambda self, request: [*self.accounts]),
        "a text goes out on its caller's terms alone",
    ),
    "limit lets all through": (
        (limit.Limit, "__call__", pass_through),
        "no more calls at once than allowed",
    ),
    "split does not cut": (
        (split.Split, "believed", property(believe_anything)),
        "no more inputs than allowed",
    ),
    "coalesce does not join": (
        (coalesce.Coalesce, "_join", lambda self, request, inputs: {}),
        "no text is in flight twice",
    ),
    "coalesce charges everybody": (
        (coalesce._Question, "collect", charge_everybody),
        "what is paid was billed",
    ),
    "coalesce joins over projects": (
        (coalesce, "scope_of", lambda grant, scope: "*"),
        "only a shared question is free",
    ),
    "coalesce never forgets": (
        (coalesce.Coalesce, "_forget", lambda self, terms, question: None),
        "no layer holds on to a caller",
    ),
    "coalesce gives everybody's error to all": (
        (coalesce, "is_about_request", lambda error: False),
        "only who sent a bad text is refused",
    ),
    "booked forgets what failed": (
        (booked.Booked, "_end", lambda *_: None),
        "each attempt has one end",
    ),
    "booked takes a lost answer for free": (
        (booked, "_state", lambda error: "unbilled"),
        "no bill is missing in the book",
    ),
    "batch mixes up seats": (
        (batch.Batch, "_share", answer_backwards),
        "each vector is its own text's, in order",
    ),
    "batch joins over terms": (
        (journey, "_terms", lambda request: request.params),
        "a text goes out on its caller's terms alone",
    ),
    "batch blames all aboard": (
        (batch, "is_about_request", lambda error: False),
        "only who sent a bad text is refused",
    ),
    "batch does not move positions": (
        (journey.Journey, "positions_of", lambda self, one: list(range(len(self.seats)))),
        "an error names a bad input of the caller",
    ),
    "batch wakes nobody": (
        (batch.Batch, "_free", never_free),
        "without faults all are served",
    ),
    "batch takes the first one's deadline": (
        (journey.Journey, "request", property(first_deadline)),
        "nobody's time is over before it is",
    ),
    "cache knows no projects": (
        (cache, "scope_of", lambda grant, scope: "*"),
        "a project knows its own alone",
    ),
    "cache keeps under wrong keys": (
        (cache.Cache, "_keep", keep_backwards),
        "each vector is its own text's, in order",
    ),
    "cache keeps nothing": (
        (cache.Cache, "_keep", lambda self, label, made: None),
        "what is known is not asked again",
    ),
    "hits cost money": (
        (cache, "_hit", lambda one: replace(HIT(one), cost=7)),
        "a vector costs its tokens",
    ),
    "nobody looks at the clock": (
        (deadline.Deadline, "__call__", pass_through),
        "nobody is held longer than he waits",
    ),
    "callers who left are still worked for": (
        (coalesce.Coalesce, "_wait", never_cancel),
        "no call goes on for nobody",
    ),
    "answers are not looked at": (
        (upstream, "fault", lambda vector, width: None),
        "each vector is its own text's, in order",
    ),
}
HIT = cache._hit


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name, monkeypatch):
    """Each law is broken by a gateway that lacks the rule it guards."""
    (place, attribute, planted), law = FAULTS[name]
    monkeypatch.setattr(place, attribute, planted)

    broken = set()
    for seed in range(MOST_SEEDS):
        broken |= {one.partition(":")[0] for one in run_seed(seed).log.broken}
        if law in broken:
            return
    pytest.fail(f"not found out; broken: {sorted(broken)}")
