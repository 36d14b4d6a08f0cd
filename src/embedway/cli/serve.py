"""`embedway serve`: start the gateway and say so."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from msgspec.structs import replace

from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.stop import OK, Stop

if TYPE_CHECKING:
    from embedway.server.run import Ready


def add_arguments(parser: Parser) -> None:
    """Declare where to listen and how much to log."""
    parser.add_argument(
        "--port", type=_port, metavar="N", help="the port; 0 takes a free one (default: 1536)"
    )
    parser.add_argument(
        "--listen",
        "--host",
        dest="listen",
        metavar="ADDR[:PORT]",
        help="the address; any but a loopback address needs a key first (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        help="what goes to standard error; info writes a line for each embedding request "
        "(default: warning)",
    )
    add_common(parser, "print one JSON line when the gateway takes requests")


def run(arguments: Namespace) -> int:
    """Serve until a signal comes."""
    loaded = load(arguments)
    overrides = {}
    if arguments.port is not None or arguments.listen is not None:
        listen = loaded.settings.server.listen
        overrides["server.listen"] = _listen(listen, arguments.listen, arguments.port)
    if arguments.log_level is not None:
        overrides["log.level"] = arguments.log_level
    loaded = load(arguments, overrides)
    # After the settings: a mistake in them is told before the server's modules are read.
    from embedway.cli.banner import banner, command_name, record
    from embedway.server.run import ListenError, serve

    def announce(ready: Ready) -> None:
        clock, catalog = ready.runtime.clock, ready.runtime.catalog
        states = [key.state(clock.now() * 1000) for key in ready.runtime.keys.all()]
        active = states.count("active")
        # With what servers of one's own told of themselves.
        told = replace(loaded, settings=ready.runtime.settings)
        if arguments.json:
            line = record(told, catalog, url=ready.url, is_open=ready.is_open, keys=active)
            print(json.dumps(line))
        else:
            text = banner(
                told,
                catalog,
                url=ready.url,
                is_open=ready.is_open,
                keys=active,
                command=command_name(sys.argv[0]),
            )
            print(text)
        sys.stdout.flush()

    try:
        serve(loaded, announce)
    except ListenError as error:
        raise Stop(str(error)) from None
    return OK


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text) <= 65_535:
        raise ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _listen(configured: str, wanted: str | None, port: int | None) -> str:
    """Address and port: what the command line says, and the rest as configured."""
    host, configured_port = _split(configured)
    if wanted is not None:
        host, wanted_port = _split(wanted)
        configured_port = wanted_port or configured_port
    return f"{host}:{configured_port if port is None else port}"


def _split(listen: str) -> tuple[str, str]:
    """Host and port; the port is empty if there is none. A bare IPv6 address gets its brackets."""
    if listen.startswith("[") or listen.count(":") < 2:
        host, _, port = listen.rpartition(":") if not listen.endswith("]") else (listen, "", "")
        return (host, port) if host else (listen, "")
    return f"[{listen}]", ""
