"""How a key's limits stand, in the headers that OpenAI's clients know."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from embedway.rates import Allowance
from embedway.server.messages import Headers


def rate_headers(allowances: Iterable[Allowance]) -> Headers:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, of the limits that there are."""
    return tuple(
        (f"x-ratelimit-{what}-{one.kind}".encode(), value.encode())
        for one in allowances
        for what, value in (
            ("limit", str(one.limit)),
            ("remaining", str(one.remaining)),
            ("reset", duration(one.reset_s)),
        )
    )


def duration(seconds: float) -> str:
    """As OpenAI writes it, never too short: `0s`, `12ms`, `59s`, `6m0s`."""
    milliseconds = ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
