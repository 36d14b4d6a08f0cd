"""What adapters share in reading: whose tokens are whose, and what a refusal says of limits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedway.errors import UpstreamInputTooLong, UpstreamRejected, UpstreamTooLarge
from embedway.replies import embeddings, refusal
from embedway.tokens import count_cl100k
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
