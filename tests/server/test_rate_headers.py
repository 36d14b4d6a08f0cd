"""The headers that tell how a key's limits stand."""

import pytest

from embedway.rates import Allowance
from embedway.server.rate_headers import duration, rate_headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.9985, "999ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.2, "2s"),
        (59, "59s"),
        (59.5, "1m0s"),
        (60, "1m0s"),
        (86.4, "1m27s"),
        (360, "6m0s"),
    ],
)
def test_duration(seconds, text):
    """A duration is written as OpenAI writes it, and never too short."""
    assert duration(seconds) == text


def test_only_the_limits_that_there_are():
    """Three headers for each limit, and none for a limit that the key does not have."""
    headers = dict(rate_headers([Allowance("tokens", 1000, 12, 59.2)]))

    assert headers == {
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"12",
        b"x-ratelimit-reset-tokens": b"1m0s",
    }
    assert rate_headers([]) == ()
