"""What is secret, and what callers write, stands nowhere but where it belongs."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from tests.fake_provider.exchange import KEY
from tests.security.canaries import NAMES, SECRETS, TEXTS, found
from tests.security.driving import COMMANDS, Driven, run_command

pytestmark = pytest.mark.timeout(180)  # the first test waits until all is driven

FILES_OF_THE_BOOKS = ("file embedway.db",)
"""They keep who asked, and under which tags."""


@pytest.fixture(scope="module", params=["text", "json"])
def driven(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """A gateway that has been through it all; the one that logs JSON keeps its vectors in a Redis
    that is down."""
    made = Driven(tmp_path_factory.mktemp(request.param), request.param)
    asyncio.run(made.drive(redis=request.param == "json"))
    return made


def test_it_was_driven(driven: Driven) -> None:
    """Every failure was one, and the providers' words did reach the caller where they may."""
    assert all(status >= 400 for status, _ in driven.failed.values()), driven.failed
    assert all(400 <= status < 500 for status, _ in driven.refused), driven.refused
    for name in ("status 400", "status 429", "status 500", "two texts", "own key, echoed"):
        assert b"told you so" in driven.failed[name][1], driven.failed[name]
    assert {"stdout", "stderr", "metrics", "errors", "file embedway.db", *COMMANDS} <= set(
        driven.sinks
    )
    assert b"embedway.access" in driven.sinks["stderr"]
    assert driven.form == "json" or "file vectors.db" in driven.sinks


def test_secrets(driven: Driven) -> None:
    """No part of a credential, a gateway key or a password stands in any output or file."""
    secrets = {**SECRETS, "the gateway key": driven.key.rpartition("_")[2]}
    seen = {sink: found(secrets, data) for sink, data in driven.sinks.items()}
    assert not {sink: names for sink, names in seen.items() if names}


def test_texts(driven: Driven) -> None:
    """No text of a caller stands in any output or file, his own errors included."""
    seen = {sink: found(TEXTS, data) for sink, data in driven.sinks.items()}
    assert not {sink: names for sink, names in seen.items() if names}


def test_users_and_tags(driven: Driven) -> None:
    """Who asked, and under which tags, stands in the books and nowhere else."""
    seen = {
        sink: found(NAMES, data)
        for sink, data in driven.sinks.items()
        if not sink.startswith(FILES_OF_THE_BOOKS)
    }
    assert not {sink: names for sink, names in seen.items() if names}
    kept = b"".join(d for sink, d in driven.sinks.items() if sink.startswith(FILES_OF_THE_BOOKS))
    assert found(NAMES, kept) == list(NAMES)


def test_the_log_is_json(driven: Driven) -> None:
    """With `log.format = "json"` every line of standard error is one object, also while all goes
    wrong; a line about a request names it."""
    if driven.form != "json":
        assert b"\x1b" not in driven.sinks["stderr"]
        return
    lines = [json.loads(line) for line in driven.sinks["stderr"].splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    about = [line for line in lines if line["logger"] == "embedway.access"]
    assert about
    assert all(line["request_id"] in line["message"] for line in about)


WRONG_SETTINGS = {
    "redis, another scheme": 'redis_url = "http://:{redis}@localhost:6379/0"',
    "redis, a port": 'redis_url = "redis://:{redis}@localhost:{redis}/0"',
    "redis, a bracket": 'redis_url = "redis://:{redis}@[localhost:6379/0"',
    "redis, a list": 'redis_url = ["redis://:{redis}@localhost:6379/0"]',
    "redis, an option": 'redis_url = "redis://:{redis}@localhost:6379/0?{redis}=1"',
    "database, another scheme": 'database_url = "mysql://u:{database}@localhost/x"',
    "database, a port": 'database_url = "postgresql://u:{database}@localhost:{database}/x"',
    "database, nobody there": 'database_url = "postgresql://u:{database}@127.0.0.1:9/x"',
    "a list": '[providers.openai]\napi_key = ["{key}"]',
    "a table": '[providers.openai.api_key]\nkey = "{key}"',
    "another name": '[providers.openai]\napikey = "{key}"',
    "no quote": '[providers.openai]\napi_key = "{key}',
    "no quotes": "[providers.openai]\napi_key = {key}",
    "two": '[providers.openai]\napi_key = "{key}"\napi_key = "{key}"',
    "no variable": '[providers.openai]\napi_key = "{key}${{NOT_SET_AT_ALL}}"',
    "a number": '[providers.openai]\napi_key = "{key}"\nconcurrency = "{key}"',
    "both": '[providers.openai]\napi_key = "{key}"\napi_key_file = "x"',
    "user and password": (
        '[providers.openai]\napi_key = "x"\nprivate = true\nbase_url = "http://u:{key}@localhost/v1"'
    ),
    "password alone": (
        '[providers.openai]\napi_key = "x"\nprivate = true\nbase_url = "http://:{key}@localhost/v1"'
    ),
    "a query": (
        '[providers.openai]\napi_key = "x"\nprivate = true\nbase_url = "http://localhost/?key={key}"'
    ),
    "secret without its id": '[providers.bedrock]\nregion = "x"\nsecret_access_key = "{key}"',
}


@pytest.mark.parametrize("text", WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_wrong_settings(tmp_path: Path, text: str) -> None:
    """A mistake beside a secret is told without the secret."""
    passwords = {
        "redis": SECRETS["the password of Redis"],
        "database": SECRETS["the password of the database"],
    }
    (tmp_path / "embedway.toml").write_text(text.format(key=KEY, **passwords))
    told = run_command(tmp_path, "serve --port 0 --log-level debug")
    assert told.startswith(b"embedway: ")
    assert b"Traceback" not in told
    assert not found(SECRETS, told), told


@pytest.mark.parametrize("name", [*SECRETS, *TEXTS, *NAMES])
@pytest.mark.parametrize("form", ["raw", "beginning", "base64", "hex", "json"])
def test_the_search(name: str, form: str) -> None:
    """A canary that does stand somewhere is found, whole or in part, in any disguise."""
    everything = {**SECRETS, **TEXTS, **NAMES}
    canary = everything[name]
    hidden = {
        "raw": canary.encode(),
        "beginning": canary[:12].encode(),
        "base64": base64.b64encode(b"me:" + canary.encode()),
        "hex": canary.encode().hex().encode(),
        "json": json.dumps([canary]).encode(),
    }[form]
    assert found(everything, b"before " + hidden + b" after") == [name]
    assert not found(everything, b"before and after")
