"""`embedway providers`: the accounts with credential, models and last error, and, if the gateway
runs, how they fare there; `ping` asks each."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from typing import Any

from embedway.catalog_file import load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.credentials import describe_credential
from embedway.cli.live import Deployment, ask_around
from embedway.cli.served import Served, look_around
from embedway.cli.stop import FAILED, NOT_FOUND, OK, Stop
from embedway.cli.terminal import table
from embedway.errors import EmbedError
from embedway.origins import Origins
from embedway.runtime import Runtime, open_runtime
from embedway.store.books import UsageBook
from embedway.store.database import open_database
from embedway.types import Call, EmbedParams, EmbedRequest, Grant

_HEAD = ("PROVIDER", "KIND", "STATE", "CREDENTIAL", "MODELS", "LAST ERROR")
_LIVE_HEAD = ("IN FLIGHT", "WAITING", "P95 MS")
_PING_TEXT = "ping"
_PING_S = 20.0


def add_arguments(parser: Parser) -> None:
    """Declare `ls` and `ping`."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("ls", "ping"),
        default="ls",
        help="ping embeds one word with each account, which paid ones bill (default: ls)",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these accounts")
    add_common(parser, "print a JSON array")


def run(arguments: Namespace) -> int:
    """Print the accounts, or what each answered."""
    loaded = load(arguments)
    served = look_around(loaded.settings, load_catalog())
    for name in arguments.names:
        if name not in loaded.settings.providers:
            raise Stop(f"there is no account {name!r}; see 'embedway providers'", NOT_FOUND)
    names = arguments.names or list(loaded.settings.providers)
    if not names and not arguments.json:
        print("no account is configured; set OPENAI_API_KEY or its like, or write embedway.toml")
        return OK
    if arguments.action == "ping":
        return _tell(asyncio.run(_ping(loaded, served, names)), is_json=arguments.json)
    models = sorted({model for name in names for model in served.models_of(name)})
    live = asyncio.run(ask_around(loaded.settings, models))
    records = [
        {**record, "deployments": _deployments(record["provider"], live)}
        for record in _list(loaded, served, names)
    ]
    if arguments.json:
        print(json.dumps(records))
    else:
        _show(records, is_live=any(record["deployments"] for record in records))
    return OK


def _deployments(account: str, live: list[Deployment]) -> list[dict[str, Any]]:
    """How each deployment of *account* fares; none where no gateway runs."""
    return [
        {"model": one.model, "status": one.status, "state": one.state, **one.health}
        for one in live
        if one.provider_name == account
    ]


def _show(records: list[dict[str, Any]], *, is_live: bool) -> None:
    head = (*_HEAD, *_LIVE_HEAD) if is_live else _HEAD
    rows = [_cells(record) + (_live_cells(record) if is_live else ()) for record in records]
    print(table(head, rows, right=(4, 6, 7, 8) if is_live else (4,)))


def _tell(answers: list[dict[str, Any]], *, is_json: bool) -> int:
    if is_json:
        print(json.dumps(answers))
    else:
        for answer in answers:
            print(f"{'ok  ' if answer['ok'] else 'fail'}  {answer['provider']}  {answer['detail']}")
    return OK if all(answer["ok"] for answer in answers) else FAILED


def _list(loaded: Origins, served: Served, names: list[str]) -> list[dict[str, Any]]:
    engine = open_database(loaded.settings.home_path, loaded.settings.database_url)
    book = UsageBook(engine)
    try:
        return [_record(name, loaded, served, book) for name in names]
    finally:
        book.close()
        engine.dispose()


def _record(name: str, loaded: Origins, served: Served, book: UsageBook) -> dict[str, Any]:
    account = loaded.settings.providers[name]
    credential = describe_credential(name, account, loaded)
    needs_one = not account.private
    last = book.last_error(name)
    return {
        "provider": name,
        "kind": account.kind or name,
        "state": "ready" if credential or not needs_one else "no credential",
        "credential": credential,
        "models": list(served.models_of(name)),
        "last_error": None if last is None else {"code": last.code, "at_ms": last.created_ms},
    }


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    last = record["last_error"]
    out = [one for one in record["deployments"] if one["status"]]
    worst = min(out, key=lambda one: one["status"], default=None)
    return (
        record["provider"],
        record["kind"],
        # A breaker belongs to a deployment: the others of the account may be well.
        f"{worst['state']}: {len(out)} of {len(record['deployments'])}"
        if worst
        else record["state"],
        record["credential"] or "",
        str(len(record["models"])),
        last["code"] if last else "",
    )


def _live_cells(record: dict[str, Any]) -> tuple[str, ...]:
    deployments = record["deployments"]
    slowest = max((one["latency_ms"]["p95"] or 0.0 for one in deployments), default=0.0)
    return (
        str(sum(one["in_flight"] for one in deployments)),
        str(sum(one["waiting"] for one in deployments)),
        f"{slowest:.0f}" if slowest else "",
    )


async def _ping(loaded: Origins, served: Served, names: list[str]) -> list[dict[str, Any]]:
    async with open_runtime(loaded.settings) as runtime:
        asked = (_ask(runtime, name, served.models_of(name)[0]) for name in names)
        return list(await asyncio.gather(*asked))


async def _ask(runtime: Runtime, name: str, model: str) -> dict[str, Any]:
    """One word through one account."""
    started = runtime.clock.monotonic()
    call = Call(id=runtime.ids.new(), grant=Grant.open(), deadline=started + _PING_S, only=(name,))
    request = EmbedRequest(params=EmbedParams(model=model), inputs=(_PING_TEXT,), call=call)
    try:
        response = await runtime.gateway(request)
    except EmbedError as error:
        return {"provider": name, "model": model, "ok": False, "detail": error.message}
    milliseconds = round((runtime.clock.monotonic() - started) * 1000)
    width = len(response.embeddings[0].vector) // 4
    detail = f"{model}  {width} dims  {milliseconds} ms"
    return {"provider": name, "model": model, "ok": True, "detail": detail}
