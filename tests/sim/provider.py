"""All providers of a simulation behind one transport: OpenAI's dialect, true vectors, and faults.

What a request is told, and what goes wrong, is drawn from the seed while the simulation runs. Every
call is shown to the laws, as the provider sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson
import pybase64

from embedway.provider import HttpRequest, HttpResponse, TransportError
from embedway.vectors import to_base64
from tests.sim.laws import Laws
from tests.sim.loop import SimClock
from tests.sim.plan import BAD, Account
from tests.sim.traffic import Sent
from tests.sim.vectors import true_base64, true_tokens

_SILENT_S = 10.0
"""How long a provider that never answers is waited for, by whoever has so much time."""
_NAN = bytes.fromhex("0000c07f")
_STATUSES = {"429": "Slow down.", "500": "Internal error.", "503": "Overloaded."}


class SimProviders:
    """Fits `embedway.provider.Send`. fault_rate: the part of the calls that meets a fault."""

    def __init__(
        self,
        accounts: Sequence[Account],
        chance: Random,
        laws: Laws,
        *,
        faults: Sequence[str],
        fault_rate: float,
    ) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._chance = chance
        self._laws = laws
        self._clock = SimClock()
        self._faults = faults
        self.fault_rate = fault_rate
        self.calls = 0

    async def __call__(
        self, request: HttpRequest, /, *, timeout_s: float, max_bytes: int
    ) -> HttpResponse:
        """One call, from its start to its end or its cancellation."""
        self.calls += 1
        account = self._accounts[(urlsplit(request.url).hostname or "").partition(".")[0]]
        sent = read(request, account, self.calls)
        self._laws.traffic.sent(sent)
        fault, end = self._draw_fault(), "cancelled"
        try:
            response = await self._answer(sent, timeout_s, fault)
            end = f"{response.status} {fault}".rstrip()
        except TransportError as error:
            end = error.reason
            raise
        finally:
            self._laws.traffic.landed(sent, end, is_fault=fault not in ("", "slow"))
        assert len(response.body) <= max_bytes
        return response

    def _draw_fault(self) -> str:
        if self._chance.random() >= self.fault_rate:
            return ""
        return self._chance.choice(self._faults)

    async def _answer(self, sent: Sent, timeout_s: float, fault: str) -> HttpResponse:
        chance = self._chance
        if fault == "unreachable":
            raise TransportError("cannot connect", was_sent=False)
        latency_s = sent.account.latency_s * (0.5 + chance.random())
        latency_s *= 50 if fault == "slow" else 1
        if fault == "silent":
            latency_s = _SILENT_S
        if fault == "silent" or latency_s >= timeout_s:
            await self._clock.sleep(min(timeout_s, latency_s))
            raise TransportError("no answer in time", was_sent=True, is_timeout=True)
        await self._clock.sleep(latency_s)
        if fault in _STATUSES:
            return refusal(int(fault), _STATUSES[fault])
        if (refused := refuse(sent)) is not None:
            return refused
        self._laws.books.bill(sent, tokens_of(sent))
        if fault == "lost":
            raise TransportError("the connection broke", was_sent=True)
        return write(sent, chance, _WRONG.get(fault))


def read(request: HttpRequest, account: Account, number: int) -> Sent:
    """The call as the provider understands it."""
    body = orjson.loads(request.body)
    kind = account.kind
    return Sent(
        number=number,
        account=account,
        inputs=tuple(tuple(one) if isinstance(one, list) else one for one in body["input"]),
        model=body["model"],
        width=body.get("dimensions", kind.widths[0]),
        task=body.get("input_type", ""),
        user=body.get("user"),
        credential=request.headers["authorization"].removeprefix("Bearer "),
    )


def refuse(sent: Sent) -> HttpResponse | None:
    """The refusal of what the account does not take, if it is that."""
    account, count = sent.account, len(sent.inputs)
    if count > account.true_limit:
        if account.names_limit:
            told = f"batch size {count} > maximum allowed batch size {account.true_limit}"
            return refusal(422, told)
        return refusal(413, "Payload Too Large")
    if any(isinstance(one, str) and one.startswith(BAD) for one in sent.inputs):
        return refusal(400, "A text is not accepted.")
    return None


def refusal(status: int, message: str) -> HttpResponse:
    """OpenAI's envelope."""
    return HttpResponse(status, {}, orjson.dumps({"error": {"message": message}}))


def tokens_of(sent: Sent) -> int:
    """What the provider bills."""
    return sum(true_tokens(value, sent.account.kind) for value in sent.inputs)


def write(sent: Sent, chance: Random, spoil: Callable[[Any], Any] | None) -> HttpResponse:
    """The answer; in any order, for each vector has its index."""
    kind = sent.account.kind
    items: list[Mapping[str, Any]] = [
        {"index": index, "embedding": true_base64(value, kind, sent.width, sent.task)}
        for index, value in enumerate(sent.inputs)
    ]
    if chance.random() < 0.2:
        chance.shuffle(items)
    body: Any = {"data": items, "usage": {"prompt_tokens": tokens_of(sent)}}
    if spoil is not None:
        body = spoil(body)
    return HttpResponse(200, {}, orjson.dumps(body))


def _with_nan(body: Any) -> Any:
    first = body["data"][0]
    data = _NAN + pybase64.b64decode(first["embedding"])[4:]
    return {**body, "data": [{**first, "embedding": to_base64(data).decode()}, *body["data"][1:]]}


_WRONG: Mapping[str, Callable[[Any], Any]] = {
    "short": lambda body: {**body, "data": body["data"][:-1]},
    "nan": _with_nan,
    "garbage": lambda body: {"surprise": True},
}
"""Answers that hold no true vector for every input, though the call is billed."""
