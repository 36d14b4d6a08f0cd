"""`embedway keys`: create, list and revoke the keys that callers send. Needs only the database."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.served import look_around
from embedway.cli.stop import NOT_FOUND, OK, WRONG_USAGE, Stop
from embedway.cli.terminal import is_terminal, table
from embedway.clock import SystemClock
from embedway.errors import ModelNotFound
from embedway.settings import Settings
from embedway.spaces import space_of
from embedway.store.database import open_database
from embedway.store.keys import DEFAULT_PROJECT, Key, KeyStore, is_project, load_pepper
from embedway.types import EmbedParams

_HEAD = ("ID", "NAME", "TYPE", "PROJECT", "STATE", "MODELS", "CREATED", "EXPIRES")
_RAW = b'{"jina":{"normalized":false}}'
"""Options for vectors that are not normalised: they live in a space of their own."""
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def add_arguments(parser: Parser) -> None:
    """Declare `create`, `ls` and `revoke`."""
    actions = parser.add_subcommands()
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("name", metavar="NAME", type=_name, help="what the key is for")
    create.add_argument(
        "--type",
        choices=("prod", "dev", "admin"),
        default="prod",
        help="an admin key may also read what others did (default: prod)",
    )
    create.add_argument(
        "--models",
        type=_names,
        metavar="A,B",
        help="the only models, or aliases, the key may use (default: all)",
    )
    create.add_argument(
        "--expires",
        type=_expiry,
        metavar="WHEN",
        help="30d, 12h, 90m, or a date: the last day on which it works, UTC (default: never)",
    )
    create.add_argument(
        "--project",
        type=project_name,
        default=DEFAULT_PROJECT,
        metavar="P",
        help="whose the key is: keys of one project share the cache (default: default)",
    )
    create.add_argument(
        "--no-fallbacks",
        action="store_true",
        help="refuse requests that name fallback models: all vectors are of one model",
    )
    create.add_argument(
        "--space",
        metavar="S",
        help="the only vector space, such as openai/text-embedding-3-small@1536 (default: any)",
    )
    add_common(create, "print one JSON object, which holds the key")
    listing = actions.add_parser("ls", help="list the keys; none of them is shown")
    add_common(listing, "print a JSON array")
    revoke = actions.add_parser("revoke", help="make a key useless, at once and for good")
    revoke.add_argument(
        "key", metavar="ID_OR_NAME", help="its id, or its name: then all keys of that name"
    )
    add_common(revoke, "print a JSON array of the keys revoked")


def run(arguments: Namespace) -> int:
    """Do what `arguments.action` says."""
    action: Callable[[Namespace, Settings], int] = {
        "create": _create,
        "ls": _list,
        "revoke": _revoke,
    }[arguments.action]
    return action(arguments, load(arguments).settings)


def _create(arguments: Namespace, settings: Settings) -> int:
    _refuse_unknown(arguments.models or (), settings)
    if arguments.space is not None:
        _refuse_no_space(arguments.space, settings)
    now = SystemClock().now()
    expires_ms = arguments.expires(now) if arguments.expires else None
    with _open(settings) as store:
        is_first = not store.all()
        key, text = store.create(
            arguments.name,
            type=arguments.type,
            models=arguments.models,
            expires_ms=expires_ms,
            project=arguments.project,
            allows_fallbacks=not arguments.no_fallbacks,
            space=arguments.space,
        )
    until = f", works until {_time(key.expires_ms)}" if key.expires_ms else ""
    notes = [f"key {key.id} ({key.name}, {key.type}){until}. Shown once: keep it now."]
    if is_first:
        notes.append("This is the first key: from now on every caller needs one.")
    if arguments.json:
        print(json.dumps({**_record(key, now), "key": text.reveal()}))
    else:
        print(text.reveal())  # alone on standard output, for KEY=$(embedway keys create ...)
        print("\n".join(notes), file=sys.stdout if is_terminal(sys.stdout) else sys.stderr)
    return OK


def _list(arguments: Namespace, settings: Settings) -> int:
    with _open(settings) as store:
        keys = store.all()
    now = SystemClock().now()
    if arguments.json:
        print(json.dumps([_record(key, now) for key in keys]))
    elif not keys:
        print("no keys: the gateway answers loopback callers only, without asking for a key")
    else:
        rows = [
            (
                key.id,
                key.name,
                key.type,
                key.project,
                key.state(now * 1000),
                ", ".join(key.models) if key.models is not None else "all",
                _time(key.created_ms),
                _time(key.expires_ms),
            )
            for key in keys
        ]
        print(table(_HEAD, rows))
    return OK


def _revoke(arguments: Namespace, settings: Settings) -> int:
    wanted = arguments.key
    with _open(settings) as store:
        known = [key for key in store.all() if wanted in (key.id, key.name)]
        if not known:
            raise Stop(f"no key has the id or name {wanted!r}; see 'embedway keys ls'", NOT_FOUND)
        revoked = store.revoke(wanted)
    if arguments.json:
        print(json.dumps([{"id": key.id, "name": key.name} for key in revoked]))
        return OK
    for key in revoked:
        print(f"revoked {key.id} ({key.name}); a running gateway refuses it within a second")
    if not revoked:
        print(f"{wanted} was revoked before; nothing to do")
    return OK


@contextmanager
def _open(settings: Settings) -> Iterator[KeyStore]:
    engine = open_database(settings.home_path)
    try:
        yield KeyStore(engine, load_pepper(settings.home_path), SystemClock())
    finally:
        engine.dispose()


def _refuse_unknown(names: tuple[str, ...], settings: Settings) -> None:
    directory = look_around(settings, load_catalog()).directory
    for name in names:
        try:
            directory.look_up(name)
        except ModelNotFound as error:
            raise Stop(f"--models: {error}", WRONG_USAGE) from None


def _refuse_no_space(text: str, settings: Settings) -> None:
    """A slip would make a key that is good for nothing."""
    base, _, input_type = text.partition("+")
    width = base.rpartition("@")[2]
    models = look_around(settings, load_catalog()).directory.catalog.models
    for model in models if width.isascii() and width.isdigit() and len(width) < 7 else ():
        spaces = [
            str(
                space_of(model, EmbedParams(model=model.id, dimensions=int(width), options=options))
            )
            for options in (b"", _RAW)
        ]
        is_typed = not input_type or model.input_type_in_space
        if base in spaces and model.allows_dimensions(int(width)) and is_typed:
            return
    raise Stop(
        f"--space: no model here gives vectors in {text!r}; a space is a model and its dimensions, "
        "such as openai/text-embedding-3-small@1536",
        WRONG_USAGE,
    )


def _record(key: Key, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "type": key.type,
        "project": key.project,
        "allows_fallbacks": key.allows_fallbacks,
        "space": key.space,
        "state": key.state(now * 1000),
        "models": key.models,
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
    }


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise ArgumentTypeError("a key's name has 1 to 100 printable characters")
    return text


def project_name(text: str) -> str:
    """The name of a project, as argparse wants its types."""
    if not is_project(text):
        raise ArgumentTypeError("a project's name has 1 to 64 of A-Z a-z 0-9 _ . -")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ArgumentTypeError("names no model")
    return names


def _expiry(text: str) -> Callable[[float], int]:
    """A function from now (seconds since 1970) to the expiry in milliseconds since 1970."""
    if match := re.fullmatch(r"([0-9]{1,5})([mhd])", text):
        length = int(match[1]) * _UNITS[match[2]]
        if not length:
            raise ArgumentTypeError("must be in the future")
        return lambda now: int((now + length.total_seconds()) * 1000)
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither like 30d, 12h or 90m nor a date") from None
    end_ms = int((day + timedelta(days=1)).timestamp() * 1000)
    if end_ms <= SystemClock().now() * 1000:
        raise ArgumentTypeError("must be in the future")
    return lambda now: end_ms
