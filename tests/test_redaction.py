"""What a provider repeats of credentials and texts does not come through."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedway.redaction import printable, without_credentials, without_texts
from embedway.secret import Secret

KEY = "sk-operator/0123456789+abcdef=="
FORMS = {
    "as it is": KEY,
    "its beginning": KEY[:14],
    "its end": KEY[-12:],
    "its middle": KEY[6:20],
    "percent-encoded": quote(KEY, safe=""),
    "hex": KEY.encode().hex(),
    "hex in capitals": KEY.encode().hex().upper(),
    **{
        f"base64 behind {name!r}": base64.b64encode(f"{name}{KEY}".encode()).decode()
        for name in ("", "u", "u:", "me:")
    },
    "base64 for URLs": base64.urlsafe_b64encode(b"\xff\xfe" + KEY.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_credentials(form: str) -> None:
    """No twelve characters of a credential remain, however it is quoted, and what stands around
    it does."""
    shown = without_credentials(f"before {form} after", [Secret("another one"), Secret(KEY)])
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "***" in shown
    assert not any(form[at : at + 12] in shown for at in range(len(form) - 11))


@given(
    secret=st.text(min_size=12, max_size=60),
    words=st.text(max_size=60),
    cut=st.integers(0, 60),
    kept=st.integers(12, 60),
)
def test_any_part(secret: str, words: str, cut: int, kept: int) -> None:
    """Whatever part of twelve characters or more stands wherever, it is gone."""
    part = secret[cut : cut + kept]
    shown = without_credentials(f"{words}{part}{words}", [Secret(secret)])
    if len(part) >= 12:
        for at in range(len(part) - 11):
            assert part[at : at + 12] not in shown


def test_short_credentials() -> None:
    """One of less than twelve characters is hidden whole."""
    assert (
        without_credentials("bad key hunter2!", [Secret("hunter2"), Secret("")]) == "bad key ***!"
    )


def test_innocent_words() -> None:
    """Words that repeat nothing stay as they are."""
    words = "This model's maximum context length is 8192 tokens."
    assert without_credentials(words, [Secret(KEY)]) == words
    assert without_texts(words, ["This model", "", "Sunny day at the beach", "tokens."]) == words


TEXT = 'Dear "Ada",\n\tthe nest is at 52.0799° north.\nYours, Grace of the \\north\\ shore'


@pytest.mark.parametrize(
    "quoted",
    [
        TEXT,
        TEXT[:12],
        TEXT[:30],
        TEXT[-12:],
        TEXT[-30:],
        printable(TEXT),
        json.dumps(TEXT),
        json.dumps(TEXT, ensure_ascii=False)[:25],
        json.dumps(TEXT)[-25:-1],
        repr(TEXT),
        json.dumps({"input": ["another", TEXT]}),
        f"{TEXT[:25]}...{TEXT[-24:]}",
    ],
)
def test_texts(quoted: str) -> None:
    """The beginning and the end of a text are cut out, plain or escaped, and all that goes on like
    them."""
    shown = without_texts(f"cannot read {quoted} here", ["short", TEXT])
    assert shown.startswith("cannot read ")
    assert shown.endswith(" here")
    for part in ("Dear", "Ada", "nest", "Grace", "shore"):
        assert part not in shown


def test_a_text_twice() -> None:
    """Every time that it is repeated it is cut out."""
    text = "Sunny day at the beach"
    assert without_texts(f"{text}, {text}, {text[:15]}", [text]) == "…, …, …"
