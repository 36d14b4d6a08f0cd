"""`embedway config`: the settings, where each comes from, and whether they make sense."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import orjson

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.served import look_around
from embedway.cli.stop import OK
from embedway.cli.terminal import table
from embedway.origins import Origins, flatten


def add_arguments(parser: Parser) -> None:
    """Declare `show` and `check`."""
    actions = parser.add_subcommands()
    show = actions.add_parser("show", help="print every setting; credentials as stars")
    show.add_argument("--origin", action="store_true", help="also say where each value comes from")
    add_common(show, "print a JSON array, with the origins")
    check = actions.add_parser("check", help="say whether the gateway would start with them")
    add_common(check, "print one JSON object")


def run(arguments: Namespace) -> int:
    """Print the settings or check them. Raises SettingsError if they are wrong."""
    loaded = load(arguments)
    return _check(arguments, loaded) if arguments.action == "check" else _show(arguments, loaded)


def _show(arguments: Namespace, loaded: Origins) -> int:
    values = [(name, value, loaded.origin(name)) for name, value in flatten(loaded.settings)]
    if arguments.json:
        records = [{"name": n, "value": value, "origin": o} for n, value, o in values]
        print(_json(records))
        return OK
    rows = [(name, _json(value), origin) for name, value, origin in values]
    if arguments.origin:
        print(table(("SETTING", "VALUE", "ORIGIN"), rows))
    else:
        print(table(("SETTING", "VALUE"), [row[:2] for row in rows]))
    return OK


def _check(arguments: Namespace, loaded: Origins) -> int:
    served = look_around(loaded.settings, load_catalog())
    if arguments.json:
        print(_json({"ok": True, "models": len(served.accounts), "notes": loaded.notes}))
        return OK
    for note in loaded.notes:
        print(f"note: {note}")
    print(f"ok: {len(served.accounts)} models would be served")
    return OK


def _json(value: Any) -> str:
    """Whatever JSON has not, which is a Secret, as its `str`: stars."""
    return orjson.dumps(value, default=str).decode()
