"""A Secret shows its text to nobody but the one who reveals it."""

import copy
import pickle

import msgspec
import orjson
import pytest

from embedway.secret import Secret
from embedway.settings import AccountSettings, Settings
from tests.fakes import make_call, make_deployment, make_request

TEXT = "qzxjkvwqzyxqjzkwvqxzjwkq"


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!r}".format,
        "%s".__mod__,
        lambda secret: f"{secret}",
        lambda secret: repr([secret, {"key": secret}]),
        lambda secret: repr(AccountSettings(api_key=secret)),
        lambda secret: repr(Settings(home="~", providers={"x": AccountSettings(api_key=secret)})),
        lambda secret: repr(make_deployment(credential=secret)),
        lambda secret: repr(make_request(call=make_call(credentials={"openai": secret}))),
        lambda secret: str(ValueError("wrong", secret)),
    ],
)
def test_is_not_shown(show):
    """Whatever prints a Secret, alone or inside other data, prints stars in its place."""
    shown = show(Secret(TEXT))

    assert "***" in shown
    assert not any(TEXT[at : at + 3] in shown for at in range(len(TEXT) - 2))


@pytest.mark.parametrize(
    "write",
    [pickle.dumps, copy.copy, copy.deepcopy, orjson.dumps, msgspec.json.encode],
)
def test_cannot_be_written(write):
    """A Secret cannot be pickled, copied or encoded, so that it reaches no file by accident."""
    with pytest.raises(TypeError):
        write(Secret(TEXT))


def test_is_revealed():
    """`reveal` is the way to the text."""
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize(
    ("text", "hint"),
    [("", "····"), ("short", "····"), ("a" * 15, "····"), ("a" * 12 + "WXYZ", "····WXYZ")],
)
def test_hint(text, hint):
    """A hint shows four characters of a long text, and none of a short one."""
    assert Secret(text).hint() == hint


def test_equality():
    """Two Secrets are equal if their texts are, and no Secret equals its text."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
