"""Every way a request can fail, as a tree. The outside asks the class, never the message.

* EmbedError
  x InvalidRequest 400              the caller must change something
    + InvalidInput 400              `input` is empty, of a wrong type, too many, mixed
    + InputTooLong 400              an input, or the request, is over the model's limit
    + UnsupportedDimensions 400
    + ModelNotFound 404
    + NotFound 404                  a route or a record
    + MethodNotAllowed 405
    + RequestTimeout 408            the body came too slowly
    + RequestTooLarge 413
    + UnsupportedMediaType 415
    + HeadersTooLarge 431
  x Unauthenticated 401
    + MissingKey / InvalidKey / ExpiredKey / RevokedKey
  x PermissionDenied 403
    + ModelNotAllowed
  x SpaceMismatch 409               the key is pinned to another vector space
  x BudgetExceeded 402
  x RateLimited 429                 our own limit
    + TooMuchAtOnce 429             more than it ever allows
  x Overloaded 503                  our queues are full, or we are shutting down
  x LedgerUnavailable 503
  x DeadlineExceeded 504
  x UpstreamError 502               a provider failed
    + UpstreamRateLimited 429
    + UpstreamUnavailable 503
    + UpstreamTimeout 504
    + UpstreamRejected 400          the provider disliked the request
      - UpstreamInputTooLong 400    its verdict on the length of an input, or of all together
      - UpstreamTooLarge 400        its verdict on how much was sent at once
      - UpstreamModelNotFound 404   the account does not have the model
    + UpstreamUnauthorized 502      *our* credential is bad: never 401 for the caller
    + MalformedResponse 502         the answer was refused because a vector would be wrong

`status`, `type` and `code` are what callers see (contract, section 4). `retryable` says whether
another attempt of ours may help; `caller_may_retry` whether the caller's own client should try.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from embedway.types import Attempt, Embedding, Plan


class EmbedError(Exception):
    """The base: something the caller is told about, in OpenAI's error envelope.

    message: what happened and what to do; the only part that some clients print.
    param: the field that is wrong, such as `input[37]`.
    retry_after_s: when another try may succeed, in seconds.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal_server_error"
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    caller_may_retry: ClassVar[bool] = False

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.attempts: tuple[Attempt, ...] = ()
        """What was tried before this error; filled in by the ends of the stack."""
        self.plan: Plan | None = None
        """Who could have served; for callers, where anybody was asked."""
        self.finished: Mapping[int, Embedding] = {}
        """The inputs that were embedded all the same, by position: paid for, and kept."""


class InvalidRequest(EmbedError):
    """A field is wrong and the caller must change it."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_parameter"


class InvalidInput(InvalidRequest):
    """`input` is empty, of a wrong type, mixed, or has too many items."""

    code = "invalid_input"


class InputTooLong(InvalidRequest):
    """One input, or all together, have more tokens than the model takes."""

    code = "token_limit_exceeded"


class UnsupportedDimensions(InvalidRequest):
    """The model cannot give vectors of that length."""

    code = "unsupported_dimensions"


class ModelNotFound(InvalidRequest):
    """No such model, or no account here serves it."""

    status = 404
    code = "model_not_found"

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message, param="model")
        self.model = model


class NotFound(InvalidRequest):
    """No such route or record."""

    status = 404
    code = "not_found"


class MethodNotAllowed(InvalidRequest):
    """The route exists, but not for this HTTP method. `allow`: the methods it takes."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(InvalidRequest):
    """The body did not come in time. Another time the way to us may be faster."""

    status = 408
    code = "request_timeout"
    caller_may_retry = True


class RequestTooLarge(InvalidRequest):
    """The body has more bytes than the server reads."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(InvalidRequest):
    """The body is not JSON, or is compressed."""

    status = 415
    code = "unsupported_media_type"


class HeadersTooLarge(InvalidRequest):
    """The head of the request has too many bytes or fields."""

    status = 431
    code = "headers_too_large"


class Unauthenticated(EmbedError):
    """We do not know who is asking."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class MissingKey(Unauthenticated):
    """No key was sent."""

    code = "missing_api_key"


class InvalidKey(Unauthenticated):
    """The key is not one of ours."""

    code = "invalid_api_key"


class ExpiredKey(Unauthenticated):
    """The key's time is over."""

    code = "expired_api_key"


class RevokedKey(Unauthenticated):
    """The key was revoked."""

    code = "revoked_api_key"


class PermissionDenied(EmbedError):
    """We know who is asking, and the answer is no."""

    status = 403
    type = "permission_error"
    code = "insufficient_permissions"


class ModelNotAllowed(PermissionDenied):
    """The key may not use this model."""

    code = "model_not_allowed"


class SpaceMismatch(EmbedError):
    """The key is pinned to one vector space, and the answer would live in another."""

    status = 409
    type = "invalid_request_error"
    code = "space_mismatch"


class BudgetExceeded(EmbedError):
    """The key's budget is spent."""

    status = 402
    type = "insufficient_quota"
    code = "budget_exceeded"


class RateLimited(EmbedError):
    """The key asked too often."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    caller_may_retry = True


class TooMuchAtOnce(RateLimited):
    """The request alone is more than the key may send in a minute: to wait is no use."""

    caller_may_retry = False


class Overloaded(EmbedError):
    """The gateway has more work waiting than it can do in time."""

    status = 503
    type = "overloaded_error"
    code = "overloaded"
    caller_may_retry = True


class LedgerUnavailable(EmbedError):
    """A paid call cannot be written down, so it is not made."""

    status = 503
    type = "overloaded_error"
    code = "ledger_unavailable"
    caller_may_retry = True


class DeadlineExceeded(EmbedError):
    """The time of the call is over."""

    status = 504
    type = "provider_error"
    code = "provider_timeout"


class UpstreamError(EmbedError):
    """A provider failed. `provider` is the account's name, `upstream_status` its HTTP status."""

    status = 502
    type = "provider_error"
    code = "provider_unavailable"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        upstream_status: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.provider = provider
        self.upstream_status = upstream_status
        self.was_sent = True
        """Whether the provider may have seen the request, and so may bill it."""


class UpstreamRateLimited(UpstreamError):
    """The provider's limit for our account is reached."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retryable = True


class UpstreamUnavailable(UpstreamError):
    """The provider answered 5xx or could not be reached."""

    status = 503
    retryable = True


class UpstreamTimeout(UpstreamError):
    """The provider did not answer in time."""

    status = 504
    code = "provider_timeout"
    retryable = True


class UpstreamRejected(UpstreamError):
    """The provider refused the request itself; another attempt would be refused too."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_parameter"


class UpstreamInputTooLong(UpstreamRejected):
    """The provider found an input, or all together, too long."""

    code = "token_limit_exceeded"


class UpstreamTooLarge(UpstreamRejected):
    """Too many inputs, or too many bytes, in one request. `max_inputs`: how many it says it takes,
    where it says so; `counts_inputs`: whether it means inputs, not bytes."""

    max_inputs: int | None = None
    counts_inputs: bool = False


class UpstreamModelNotFound(UpstreamRejected):
    """The provider does not have the model for our account."""

    status = 404
    code = "model_not_found"


class UpstreamUnauthorized(UpstreamError):
    """The provider refused the operator's credential."""

    code = "provider_unauthorized"


class MalformedResponse(UpstreamError):
    """The provider's answer would have given a wrong vector, so it was refused."""

    code = "provider_invalid_response"
    retryable = True
