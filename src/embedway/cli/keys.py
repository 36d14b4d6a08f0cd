"""`embedway keys`: create, list, show, rotate and revoke the keys that callers send.

Needs only the database.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.keys_checks import (
    refuse_unknown_models,
    refuse_unknown_providers,
    refuse_unknown_space,
)
from embedway.cli.keys_shown import key_page, key_table, record, time_text
from embedway.cli.keys_values import (
    budget,
    count,
    expiry,
    id_or_name,
    key_name,
    names,
    network,
    overlap,
    project_name,
)
from embedway.cli.stop import NOT_FOUND, OK, WRONG_USAGE, Stop
from embedway.cli.terminal import is_terminal
from embedway.clock import SystemClock
from embedway.errors import InvalidRequest
from embedway.secret import Secret
from embedway.settings import Settings
from embedway.store.budgets import BudgetState, BudgetStore
from embedway.store.database import open_database
from embedway.store.keys import DEFAULT_PROJECT, Key, KeyStore, load_pepper


def add_arguments(parser: Parser) -> None:
    """Declare `create`, `ls`, `show`, `rotate` and `revoke`."""
    actions = parser.add_subcommands()
    _add_create(actions.add_parser("create", help="make a key and print it, once"))
    listing = actions.add_parser("ls", help="list the keys; none of them is shown")
    add_common(listing, "print a JSON array")
    show = actions.add_parser("show", help="all terms of a key, and what is spent of its budgets")
    show.add_argument("key", metavar="ID_OR_NAME", type=id_or_name, help="its id, or its name")
    add_common(show, "print a JSON array of the keys of that id or name")
    rotate = actions.add_parser("rotate", help="give a key another text and print it, once")
    rotate.add_argument("key", metavar="ID_OR_NAME", type=id_or_name, help="its id, or its name")
    rotate.add_argument(
        "--overlap",
        type=overlap,
        default="24h",
        metavar="LENGTH",
        help="how long its text of before still works: 30d, 12h, 90m or 0 (default: 24h)",
    )
    add_common(rotate, "print one JSON object, which holds the key")
    revoke = actions.add_parser("revoke", help="make a key useless, at once and for good")
    told = "its id, or its name: then all keys of that name"
    revoke.add_argument("key", metavar="ID_OR_NAME", type=id_or_name, help=told)
    add_common(revoke, "print a JSON array of the keys revoked")


def _add_create(create: Parser) -> None:
    add = create.add_argument
    add("name", metavar="NAME", type=key_name, help="what the key is for")
    told = "an admin key may also read what others did, and make keys (default: prod)"
    add("--type", choices=("prod", "dev", "admin"), default="prod", help=told)
    told = "what it may spend: 5usd/month, 0.5usd/day, or 10usd for all time; once for each period"
    add("--budget", type=budget, action="append", default=[], metavar="B", help=told)
    told = "the only models, or aliases, the key may use (default: all)"
    add("--models", type=names, metavar="A,B", help=told)
    told = "the only accounts that may serve it, as 'embedway providers' lists them (default: all)"
    add("--providers", type=names, metavar="A,B", help=told)
    add("--rpm", type=count, metavar="N", help="requests a minute (default: no limit)")
    add("--tpm", type=count, metavar="N", help="tokens a minute (default: no limit)")
    add("--concurrency", type=count, metavar="N", help="requests at a time (default: no limit)")
    told = "an address or network such as 10.0.0.0/8, the only ones that may use it; repeatable"
    add("--ip", type=network, action="append", metavar="NET", help=told)
    told = "30d, 12h, 90m, or a date: the last day on which it works, UTC (default: never)"
    add("--expires", type=expiry, metavar="WHEN", help=told)
    told = "whose the key is: keys of one project share the cache (default: default)"
    add("--project", type=project_name, default=DEFAULT_PROJECT, metavar="P", help=told)
    told = "refuse requests that name fallback models: all vectors are of one model"
    add("--no-fallbacks", action="store_true", help=told)
    told = "the only vector space, such as openai/text-embedding-3-small@1536 (default: any)"
    add("--space", metavar="S", help=told)
    add_common(create, "print one JSON object, which holds the key")


def run(arguments: Namespace) -> int:
    """Do what `arguments.action` says."""
    action: Callable[[Namespace, Settings], int] = {
        "create": _create,
        "ls": _list,
        "show": _show,
        "rotate": _rotate,
        "revoke": _revoke,
    }[arguments.action]
    return action(arguments, load(arguments).settings)


class _Stores(Struct, frozen=True):
    keys: KeyStore
    budgets: BudgetStore
    now_ms: int

    def with_budgets(self, keys: Sequence[Key]) -> list[tuple[Key, Sequence[BudgetState]]]:
        """Each key with its own budgets, not those of its project."""
        own: dict[str, list[BudgetState]] = {}
        for state in self.budgets.states(self.now_ms):
            if state.budget.owner_kind == "key":
                own.setdefault(state.budget.owner, []).append(state)
        return [(key, own.get(key.id, ())) for key in keys]

    def known(self, wanted: str) -> tuple[Key, ...]:
        """The keys of that id or name; at least one. Raises Stop."""
        if not (found := self.keys.find(wanted)):
            raise Stop(f"no key has the id or name {wanted!r}; see 'embedway keys ls'", NOT_FOUND)
        return found


@contextmanager
def _open(settings: Settings) -> Iterator[_Stores]:
    engine, clock = open_database(settings.home_path, settings.database_url), SystemClock()
    try:
        keys = KeyStore(engine, load_pepper(settings.home_path), clock)
        yield _Stores(keys, BudgetStore(engine, clock), int(clock.now() * 1000))
    finally:
        engine.dispose()


def _create(arguments: Namespace, settings: Settings) -> int:
    refuse_unknown_models(arguments.models or (), settings)
    refuse_unknown_providers(arguments.providers or (), settings)
    if arguments.space is not None:
        refuse_unknown_space(arguments.space, settings)
    budgets = dict(arguments.budget)
    if len(budgets) < len(arguments.budget):
        raise Stop("--budget: give one for each period, not two", WRONG_USAGE)
    with _open(settings) as stores:
        is_first = not stores.keys.all()
        key, text = stores.keys.create(
            arguments.name,
            type=arguments.type,
            models=arguments.models,
            expires_ms=arguments.expires(stores.now_ms / 1000) if arguments.expires else None,
            project=arguments.project,
            allows_fallbacks=not arguments.no_fallbacks,
            space=arguments.space,
            providers=arguments.providers,
            ips=tuple(dict.fromkeys(arguments.ip)) if arguments.ip else None,
            requests_per_minute=arguments.rpm,
            tokens_per_minute=arguments.tpm,
            concurrency=arguments.concurrency,
        )
        for period, amount in budgets.items():
            stores.budgets.set("key", key.id, period, amount)
        until = f", works until {time_text(key.expires_ms)}" if key.expires_ms else ""
        notes = [f"key {key.id} ({key.name}, {key.type}){until}. Shown once: keep it now."]
        if is_first:
            notes.append("This is the first key: from now on every caller needs one.")
        _hand_over(arguments, stores, key, text, notes)
    return OK


def _list(arguments: Namespace, settings: Settings) -> int:
    with _open(settings) as stores:
        keys = stores.with_budgets(stores.keys.all())
    if arguments.json:
        print(json.dumps([record(*one, stores.now_ms) for one in keys]))
    elif not keys:
        print("no keys: the gateway answers loopback callers only, without asking for a key")
    else:
        print(key_table(keys, stores.now_ms))
    return OK


def _show(arguments: Namespace, settings: Settings) -> int:
    with _open(settings) as stores:
        keys = stores.with_budgets(stores.known(arguments.key))
    if arguments.json:
        print(json.dumps([record(*one, stores.now_ms) for one in keys]))
    else:
        print("\n\n".join(key_page(*one, stores.now_ms) for one in keys))
    return OK


def _rotate(arguments: Namespace, settings: Settings) -> int:
    with _open(settings) as stores:
        found = stores.known(arguments.key)
        active = [key for key in found if key.state(stores.now_ms) == "active"] or list(found)
        if len(active) > 1:
            ids = ", ".join(key.id for key in active)
            raise Stop(f"{len(active)} keys have that name; give an id: {ids}", WRONG_USAGE)
        try:
            key, text = stores.keys.rotate(
                active[0].id, overlap_s=arguments.overlap.total_seconds()
            )
        except InvalidRequest as error:
            raise Stop(error.message) from None
        before = (
            f"works until {time_text(key.previous_until_ms)}"
            if arguments.overlap
            else "stops within a second"
        )
        note = f"key {key.id} ({key.name}): its text of before {before}. Shown once: keep it now."
        _hand_over(arguments, stores, key, text, [note])
    return OK


def _revoke(arguments: Namespace, settings: Settings) -> int:
    with _open(settings) as stores:
        stores.known(arguments.key)
        revoked = stores.keys.revoke(arguments.key)
    if arguments.json:
        print(json.dumps([{"id": key.id, "name": key.name} for key in revoked]))
        return OK
    for key in revoked:
        print(f"revoked {key.id} ({key.name}); a running gateway refuses it within a second")
    if not revoked:
        print(f"{arguments.key} was revoked before; nothing to do")
    return OK


def _hand_over(
    arguments: Namespace, stores: _Stores, key: Key, text: Secret, notes: list[str]
) -> None:
    """Print a key's text, the one time."""
    if arguments.json:
        ((_, budgets),) = stores.with_budgets((key,))
        print(json.dumps({**record(key, budgets, stores.now_ms), "key": text.reveal()}))
    else:
        print(text.reveal())  # alone on standard output, for KEY=$(embedway keys create ...)
        print("\n".join(notes), file=sys.stdout if is_terminal(sys.stdout) else sys.stderr)
