"""What the adapters of all providers share in reading an answer: tokens, shares, and refusals.

A provider's file says where its fields stand; this one says what they mean to us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime

from embedway.errors import (
    UpstreamError,
    UpstreamInputTooLong,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from embedway.provider import Deployment, HttpResponse
from embedway.redaction import printable, without_credentials
from embedway.tokens import can_count, count_tokens, estimate_tokens, share_tokens
from embedway.types import Embedding, EmbedRequest, Input, Told, Vector

_LONGEST_MESSAGE = 500
_LONGEST_READ = 4096
"""Of a message, before it is shortened: whoever echoes a megabyte costs no time."""
_LONGEST_WAIT_S = 86_400.0
_MOST_TOKENS = 2**31
"""No request has as many: whoever reports them has not counted."""
_RATED = ("requests", "tokens")
_DURATION = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9})ms)?"
    r"|(\d{1,6}(?:\.\d{1,9})?)"
)
_LLAMA_TOO_LONG = "input is too large to process"
"""llama.cpp's words for a text beyond its batch, which come with status 500 as well."""
# Providers have no common code for a text that is too long; these are their words, lower-cased:
# OpenAI, vLLM ("maximum context length"), Ollama ("exceeds the context length"), Mistral ("too many
# tokens"), Cohere and Voyage ("too long", "max allowed tokens"), Titan ("too many input tokens"),
# Cohere on Bedrock ("expected maxLength: 2048"), TEI ("must have less than 512 tokens"), Google
# ("the input token count (9000) exceeds the maximum number of tokens allowed"), llama.cpp
# ("too large to process"), and this gateway ("takes at most 8192 tokens").
_TOO_LONG = re.compile(
    r"context length|too many (input )?tokens|max(imum)?( allowed)?( \d+)? tokens"
    r"|(?<!array )too long"
    r"|max_tokens_per_request|token limit|longer than the maximum"
    r"|takes at most \d+ tokens|too large to process"
    r"|expected maxlength|must have less than \d+ (tokens|characters)|input token count",
    re.IGNORECASE,
)

# Likewise for too many inputs at once: TEI ("batch size 64 > maximum allowed batch size 32"),
# OpenAI ("array too long. Expected an array with maximum length 2048"), Cohere ("total number of
# texts must be at most 96"), Google ("at most 100 requests can be in one batch"), Vertex ("5
# instance(s) is allowed per prediction"), DashScope ("batch size is invalid, it should not be
# larger than 10").
_THINGS = r"(?:inputs|texts|items|documents|instances|requests|strings|embeddings)"
_TOO_MANY = re.compile(
    rf"batch size|array too long|too many {_THINGS}|at most \d+ {_THINGS}|number of {_THINGS}"
    r"|instance\(s\) (?:is|are) allowed",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(
    r"(?:maximum allowed batch size|maximum batch size|maximum length|at most|larger than|maximum)"
    r"[ :=]{1,3}(?:of |is )?(\d{1,5})\b(?! tokens)|\b(\d{1,5}) instance\(s\)",
    re.IGNORECASE,
)


def embeddings(
    request: EmbedRequest,
    deployment: Deployment,
    vectors: Sequence[Vector],
    tokens: int | Sequence[int] | None,
    truncated: frozenset[int] = frozenset(),
) -> tuple[Embedding, ...]:
    """One embedding for each vector, in the order of the inputs.

    tokens: the sum the provider reported, a count for each input, or None where it reported
    nothing. Where the tokenizer is here each text is counted, so that its share of a sum is its
    own; else the sum is shared out by length, and what has no sum is estimated, which the embedding
    says.
    truncated: positions of inputs that the provider cut.
    A vector too few or too many is for `upstream.py` to refuse, for all providers alike.
    """
    counts, is_estimated = _counts(request.inputs, deployment.tokenizer, tokens)
    counts += [0] * (len(vectors) - len(counts))
    texts = [*request.inputs, *[""] * (len(vectors) - len(request.inputs))]
    return tuple(
        Embedding(
            vector,
            count,
            deployment.name,
            _cost(text, count, deployment),
            is_estimated,
            position in truncated,
        )
        for position, (vector, count, text) in enumerate(zip(vectors, counts, texts, strict=False))
    )


def in_order(vectors: Sequence[Vector], indexes: Sequence[int | None]) -> list[Vector]:
    """The vectors by their indexes; as they came where no index was given at all.

    Raises ValueError if indexes are missing, doubled or foreign.
    """
    expected = list(range(len(vectors)))
    if all(index is None for index in indexes) or list(indexes) == expected:
        return list(vectors)
    if sorted(index for index in indexes if index is not None) != expected:
        raise ValueError("its indexes are not 0 to n-1, each once")
    by_index = dict(zip(indexes, vectors, strict=True))
    return [by_index[position] for position in expected]


def refusal(
    deployment: Deployment,
    response: HttpResponse,
    told: str | None,
    *,
    retry_after_s: float | None = None,
    as_status: int | None = None,
) -> UpstreamError:
    """The error that an answer other than 2xx stands for, by its status.

    told: the provider's own words. retry_after_s: where the body says how long to wait; the
    headers are read here. as_status: the status that the body's words amount to, where the answer
    came with another.
    """
    name, given = deployment.name, response.status
    status = given if as_status is None else as_status
    told = _presentable(told or "its answer has no message", deployment)
    wait = retry_after(response.headers) if retry_after_s is None else retry_after_s
    if status in (401, 402, 403):
        return UpstreamUnauthorized(
            f"{name} refused this gateway's credential (HTTP {given}). "
            "The operator must check the account.",
            provider=name,
            upstream_status=given,
        )
    if status == 429:
        if wait is None and (limits := read_told(response.headers)) is not None:
            wait = limits.wait_s
        return UpstreamRateLimited(
            f"{name} limits this gateway's account: {told}",
            provider=name,
            upstream_status=given,
            retry_after_s=wait,
        )
    if status >= 500 and _LLAMA_TOO_LONG in told:
        status = 400
    # 408 and 409 pass; 424, 498 and 499 are a backend's, a filter's and a cancelled call.
    if status >= 500 or status in (408, 409, 424, 498, 499) or status < 400:
        return UpstreamUnavailable(
            f"{name} failed (HTTP {given}): {told}",
            provider=name,
            upstream_status=given,
            retry_after_s=wait,
        )
    kind = UpstreamRejected
    if status == 404:
        kind = UpstreamModelNotFound
    elif _TOO_LONG.search(told):
        kind = UpstreamInputTooLong
    elif (is_too_many := _TOO_MANY.search(told) is not None) or status == 413:
        return _too_large(name, given, told, is_too_many)
    return kind(
        f"{name} refused the request (HTTP {given}): {told}", provider=name, upstream_status=given
    )


def _too_large(name: str, status: int, told: str, counts_inputs: bool) -> UpstreamTooLarge:
    error = UpstreamTooLarge(
        f"{name} refused the request (HTTP {status}): {told}", provider=name, upstream_status=status
    )
    error.counts_inputs = counts_inputs
    numbers = {int(match[1] or match[2]) for match in _HOW_MANY.finditer(told)}
    if counts_inputs and len(numbers) == 1:  # two would leave it open which one is meant
        (error.max_inputs,) = numbers
    return error


def _presentable(told: str, deployment: Deployment) -> str:
    """A provider's words as they may be shown: short, printable, and without our credential, which
    a provider may echo."""
    secrets = [deployment.credential]
    if (key := deployment.access_key) is not None:
        secrets += [key.secret, key.session_token]
    shown = without_credentials(told[:_LONGEST_READ], [one for one in secrets if one is not None])
    return printable(shown[:_LONGEST_MESSAGE]).strip()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or a date); None if not
    said, or not soundly."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds: float | None = float(text) * scale
        except ValueError:
            seconds = _seconds_until(text, headers) if text else None
        if seconds is not None and 0 <= seconds <= _LONGEST_WAIT_S:
            return seconds
    return None


def read_told(headers: Mapping[str, str]) -> Told | None:
    """What the rate headers of OpenAI and its look-alikes say; None where there are none.

    `x-ratelimit-remaining-{requests,tokens}` and `x-ratelimit-reset-…`, which is like "6m0s",
    "1.2s", "20ms", or seconds.
    """
    left = [header_count(headers, f"x-ratelimit-remaining-{kind}") for kind in _RATED]
    if left == [None, None]:
        return None
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind, remaining in zip(_RATED, left, strict=True)
        if remaining == 0
    ]
    known = [wait for wait in waits if wait is not None]
    return Told(max(known, default=None), *left)


def _duration(text: str) -> float | None:
    """Seconds; None if it is no duration."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        return None
    hours, minutes, seconds, milliseconds, plain = (float(part or 0) for part in match.groups())
    found = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000 + plain
    return found if found <= _LONGEST_WAIT_S else None


def _seconds_until(date: str, headers: Mapping[str, str]) -> float | None:
    """From the answer's own Date to an HTTP date, so that no clock of ours matters."""
    try:
        until, now = parsedate_to_datetime(date), parsedate_to_datetime(headers.get("date", ""))
        return (until - now).total_seconds()
    except (TypeError, ValueError):  # no date at all, or one of no zone
        return None


def header_count(headers: Mapping[str, str], name: str) -> int | None:
    """The whole number in a header; None if there is none."""
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _cost(value: Input, tokens: int, deployment: Deployment) -> int:
    """Picodollars. Vertex, the only one that bills characters, does not count white space."""
    if not deployment.price_per_character or not isinstance(value, str):
        return tokens * deployment.price
    return sum(not one.isspace() for one in value) * deployment.price_per_character


def _counts(
    inputs: Sequence[Input], tokenizer: str | None, tokens: int | Sequence[int] | None
) -> tuple[list[int], bool]:
    """The tokens of each input, and whether they are only estimated."""
    if isinstance(tokens, Sequence) and _are_counts(tokens, len(inputs)):
        return list(tokens), False
    # Voyage has reported 0 for a real call: no input has no tokens, so 0 is no report.
    total = tokens if isinstance(tokens, int) and 0 < tokens < _MOST_TOKENS else None
    if total is not None and len(inputs) == 1:
        return [total], False
    lengths = [_length(value, tokenizer) for value in inputs]
    if total is not None:
        return share_tokens(total, lengths), False
    return lengths, not can_count(tokenizer)


def _are_counts(tokens: Sequence[int], inputs: int) -> bool:
    return len(tokens) == inputs and min(tokens) >= 0 and max(tokens) < _MOST_TOKENS and any(tokens)


def _length(value: Input, tokenizer: str | None) -> int:
    """Tokens of an input, exact where *tokenizer* is here."""
    if not isinstance(value, str):
        return len(value)
    counted = count_tokens(value, tokenizer)
    return estimate_tokens(value) if counted is None else counted
