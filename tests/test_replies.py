"""What adapters share in reading: whose tokens are whose, and what a refusal says of limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedway.errors import UpstreamInputTooLong, UpstreamRejected, UpstreamTooLarge
from embedway.replies import embeddings, read_told, refusal, retry_after
from embedway.tokens import count_cl100k
from embedway.types import Told
from tests.fakes import json_response, make_deployment, make_request, make_vector

COUNTED = make_deployment(tokenizer="cl100k_base")


def read(deployment, texts, tokens):
    """What an adapter makes of a sum of tokens."""
    vectors = [make_vector(text) for text in texts]
    return embeddings(make_request(*texts), deployment, vectors, tokens)


@settings(deadline=None)  # the vocabulary is loaded at first use
@given(st.lists(st.text(min_size=1), min_size=1, max_size=20))
def test_each_text_has_its_own_tokens(texts):
    """Where the tokenizer is here, a reported sum is shared out exactly as each text counts, so
    that a text costs the same in whatever company it travels."""
    counts = [count_cl100k(text) for text in texts]
    made = read(COUNTED, texts, sum(counts))

    assert [embedding.tokens for embedding in made] == counts
    assert not any(embedding.is_estimated for embedding in made)


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), st.integers(1, 10_000))
def test_the_reported_sum_is_kept(texts, total):
    """Whatever we count, the shares add up to what the provider reported and bills."""
    for deployment in (COUNTED, make_deployment()):
        made = read(deployment, texts, total)
        assert sum(embedding.tokens for embedding in made) == total
        assert sum(embedding.cost for embedding in made) == total * deployment.price


@pytest.mark.parametrize(
    ("told", "max_inputs"),
    [
        ("batch size 64 > maximum allowed batch size 32", 32),
        ("array too long. Expected an array with maximum length 2048, but got one of 2049", 2048),
        ("invalid request: total number of texts must be at most 96 - received 97", 96),
        ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", 100),
        ("5 instance(s) is allowed per prediction. Actual: 6", 5),
        ("batch size is invalid, it should not be larger than 10", 10),
        ("Too many inputs in request, split into more batches.", None),
        ("at most 10 texts, or at most 20 documents", None),
    ],
)
def test_a_limit_of_inputs_is_read(told, max_inputs):
    """A refusal for too many inputs says how many are taken, where its words leave no doubt."""
    error = refusal(make_deployment(), json_response({}, 400), told)

    assert isinstance(error, UpstreamTooLarge)
    assert error.counts_inputs
    assert error.max_inputs == max_inputs


def test_too_many_bytes():
    """413 without words about inputs is a limit of bytes."""
    error = refusal(make_deployment(), json_response({}, 413), "length limit exceeded")

    assert isinstance(error, UpstreamTooLarge)
    assert (error.counts_inputs, error.max_inputs) == (False, None)


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ("Too many tokens overall, split into more batches.", UpstreamInputTooLong),
        ("`inputs` must have less than 512 tokens. Given: 534", UpstreamInputTooLong),
        ("Requested 400000 tokens, max 300000 tokens per request", UpstreamInputTooLong),
        ("Unknown parameter: batch", UpstreamRejected),
        ("input must not be empty", UpstreamRejected),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_other_refusals_are_no_limit_of_inputs(told, kind, status):
    """Too many tokens, or something else that is wrong, says nothing of how many inputs."""
    assert type(refusal(make_deployment(), json_response({}, status), told)) is kind


DATE = "Sat, 21 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "-5", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:20 GMT", "date": DATE}, 20.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:20 +0200", "date": DATE}, 20.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:59:59 GMT", "date": DATE}, None),
        ({"retry-after": "Sat, 28 Nov 2026 10:00:00 GMT", "date": DATE}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:20 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:20 -0000", "date": DATE}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "86401"}, None),
    ],
)
def test_retry_after(headers, seconds):
    """The wait is in seconds, in milliseconds, or a date, which counts from the answer's own Date;
    what is in the past, without a zone or longer than a day is no word to rely on."""
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1.2s", 1.2),
        ("20ms", 0.02),
        ("1m20ms", 60.02),
        ("1s", 1.0),
        ("0s", 0.0),
        ("12", 12.0),
        (" 12.5 ", 12.5),
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("1d", None),
        ("nan", None),
        ("25h", None),
        ("1700000000", None),
        ("2026-11-21T10:00:20Z", None),
        ("1" * 5000, None),
    ],
)
def test_until_the_reset(text, seconds):
    """Where nothing is left the account is closed until the reset, in each form that providers
    use; what is no duration, or longer than a day, says nothing."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}
    assert read_told(headers) == Told(seconds, requests=0)


@pytest.mark.parametrize(
    ("requests", "tokens", "told"),
    [
        (("5", "60s"), ("900", "30s"), Told(None, 5, 900)),
        (("0", "60s"), ("900", "30s"), Told(60.0, 0, 900)),
        (("5", "60s"), ("0", "30s"), Told(30.0, 5, 0)),
        (("0", "60s"), ("0", "90s"), Told(90.0, 0, 0)),
        (("0", "soon"), ("0", "90s"), Told(90.0, 0, 0)),
        (("many", "60s"), ("0", "90s"), Told(90.0, None, 0)),
        (("many", "60s"), ("-1", "90s"), None),
    ],
)
def test_what_is_left(requests, tokens, told):
    """Only what has run out closes the account, and if both have the longer reset counts; headers
    that are no counts are none."""
    headers = {}
    for kind, (remaining, reset) in (("requests", requests), ("tokens", tokens)):
        headers[f"x-ratelimit-remaining-{kind}"] = remaining
        headers[f"x-ratelimit-reset-{kind}"] = reset
    assert read_told(headers) == told


def test_no_rate_headers():
    """An answer without rate headers says nothing of limits."""
    assert read_told({"date": DATE, "x-ratelimit-reset-requests": "6m0s"}) is None


VALUES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[0-9hms. -]{0,12}", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{1,9} \S{0,6}"),
)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date"]), VALUES))
def test_any_wait_is_read_or_ignored(headers):
    """Whatever a provider writes there, the wait is a time within a day or not said."""
    wait = retry_after(headers)
    assert wait is None or 0 <= wait <= 86_400


@given(VALUES, VALUES)
def test_any_reset_is_read_or_ignored(remaining, reset):
    """Whatever the rate headers hold, the wait is a time within a day or not said."""
    told = read_told(
        {
            "x-ratelimit-remaining-requests": remaining,
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": reset,
        }
    )
    assert told is not None
    assert told.wait_s is None or 0 <= told.wait_s <= 86_400
