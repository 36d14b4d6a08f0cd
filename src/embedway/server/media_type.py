"""What a body may be: plain JSON, and on a loopback server what `curl -d` calls a form.

The head is judged before the body is read, so that a wrong one is never read.
"""

from __future__ import annotations

from embedway.errors import UnsupportedMediaType
from embedway.server.messages import Incoming

_FORM = "application/x-www-form-urlencoded"


def check_head(incoming: Incoming, *, is_form_allowed: bool) -> None:
    """Raise UnsupportedMediaType for what can be no JSON."""
    if (encoding := incoming.header(b"content-encoding").lower()) not in ("", "identity"):
        raise UnsupportedMediaType(f"The body is encoded as {encoding[:20]!r}; send plain JSON.")
    media_type = _media_type(incoming)
    if media_type not in ("application/json", "") and not (is_form_allowed and media_type == _FORM):
        raise _refusal(media_type)


def check_body(incoming: Incoming) -> None:
    """Raise UnsupportedMediaType for a form that is one: `curl -d` says so of JSON, too."""
    if _media_type(incoming) == _FORM and incoming.body.lstrip()[:1] != b"{":
        raise _refusal(_FORM)


def _media_type(incoming: Incoming) -> str:
    return incoming.header(b"content-type").partition(";")[0].strip().lower()


def _refusal(media_type: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"The Content-Type is {media_type[:100]!r}; send 'Content-Type: application/json'."
    )
