"""`embedway doctor`: settings, store, keys, clock, providers, and a self-test of the vectors."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Literal

from msgspec import Struct, structs

from embedway.catalog import Catalog
from embedway.catalog_file import CatalogError, load_catalog
from embedway.cli.arguments import Parser, add_common, load
from embedway.cli.credentials import describe_credential
from embedway.cli.selftest import MODEL, find_faults
from embedway.cli.served import look_around
from embedway.cli.stop import FAILED, OK
from embedway.cli.terminal import paint
from embedway.clock import Clock, SystemClock
from embedway.errors import EmbedError
from embedway.origins import Origins
from embedway.runtime import open_runtime
from embedway.settings import CREDENTIAL_NAMES, Settings
from embedway.store.check import check_database
from embedway.store.database import StoreError, open_database
from embedway.store.keys import KeyStore, load_pepper
from embedway.types import Call, EmbedParams, EmbedRequest, Grant, Vector
from embedway.wrong_settings import SettingsError

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Finding(Struct, frozen=True):
    """What one check found."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str


def add_arguments(parser: Parser) -> None:
    """Declare the common options."""
    add_common(parser, "print one JSON object")


def run(arguments: Namespace) -> int:
    """Print what was found, line by line as it comes; 1 if anything failed."""
    findings = []
    for finding in examine(arguments, SystemClock()):
        findings.append(finding)
        if not arguments.json:
            state = paint(f"{finding.state:<4}", _COLOURS[finding.state], sys.stdout)
            print(f"{state}  {finding.name:<9}  {finding.detail}", flush=True)
    is_well = all(finding.state != "fail" for finding in findings)
    if arguments.json:
        print(json.dumps({"ok": is_well, "checks": list(map(structs.asdict, findings))}))
    return OK if is_well else FAILED


def examine(arguments: Namespace, clock: Clock) -> Iterator[Finding]:
    """Every check; none but the first if there are no settings to check with."""
    try:
        loaded, catalog = load(arguments), load_catalog()
        look_around(loaded.settings, catalog)
    except (SettingsError, CatalogError) as error:
        yield Finding("settings", "fail", str(error))
        return
    yield from _settings(loaded)
    yield from _store(loaded.settings, clock)
    yield _clock(catalog, clock)
    yield from _providers(loaded)
    yield _vectors(loaded.settings, clock)


def _settings(loaded: Origins) -> Iterator[Finding]:
    sources = sorted(set(loaded.origins.values()))
    yield Finding("settings", "ok", f"from {', '.join(sources)}" if sources else "all by default")
    for note in loaded.notes:
        yield Finding("settings", "warn", note)


def _store(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """The database, and the keys in it."""
    try:
        engine = open_database(settings.home_path, settings.database_url)
        try:
            check_database(engine)
            yield Finding("store", "ok", f"{_place(settings)} is sound")
            keys = KeyStore(engine, load_pepper(settings.home_path), clock).all()
        finally:
            engine.dispose()
    except (StoreError, SettingsError, OSError) as error:
        yield Finding("store", "fail", str(error))
        return
    if not keys:
        yield Finding("keys", "ok", "none: loopback callers only, without a key")
        return
    states = Counter(key.state(clock.now() * 1000) for key in keys)
    detail = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield Finding("keys", "ok" if states["active"] else "warn", detail)


def _place(settings: Settings) -> str:
    if settings.database_url is not None:
        return "the database of database_url"
    return str(settings.home_path / "embedway.db")


def _clock(catalog: Catalog, clock: Clock) -> Finding:
    """Expiries and the ledger need the right time, deadlines one that goes forward."""
    newest = max(offer.checked for model in catalog.models for offer in model.offers)
    now = datetime.fromtimestamp(clock.now(), UTC)
    first, second = clock.monotonic(), clock.monotonic()
    if second < first:
        return Finding("clock", "fail", "the monotonic clock went back")
    if now < datetime.combine(newest, time(), UTC):
        return Finding(
            "clock", "fail", f"it says {now:%Y-%m-%d}, but this release knows prices of {newest}"
        )
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M} UTC")


def _providers(loaded: Origins) -> Iterator[Finding]:
    """Nothing is sent: only whether there is a credential."""
    settings = loaded.settings
    for name, account in settings.providers.items():
        credential = describe_credential(name, account, loaded)
        if credential is None and not account.private:
            yield Finding(name, "warn", "no credential is set")
        else:
            yield Finding(name, "ok", credential or "no credential is set, and it is private")
    missing = [
        names[0] for name, names in CREDENTIAL_NAMES.items() if name not in settings.providers
    ]
    if missing:
        yield Finding("providers", "ok", f"not set: {', '.join(missing)}")


def _vectors(settings: Settings, clock: Clock) -> Finding:
    if not settings.local.enabled:
        return Finding("vectors", "warn", f"not tested: local.enabled is false, so no {MODEL}")
    try:
        faults = asyncio.run(_test_vectors(settings, clock))
    except (EmbedError, StoreError, SettingsError, OSError) as error:
        return Finding("vectors", "fail", f"{MODEL}: {error}")
    if faults:
        return Finding("vectors", "fail", f"{MODEL}: {'; '.join(faults)}")
    return Finding("vectors", "ok", f"{MODEL} gives the right numbers")


async def _test_vectors(settings: Settings, clock: Clock) -> list[str]:
    async with open_runtime(settings, clock=clock) as runtime:

        async def embed(texts: tuple[str, ...], dimensions: int | None) -> tuple[Vector, ...]:
            deadline = runtime.clock.monotonic() + settings.server.request_timeout_s
            request = EmbedRequest(
                params=EmbedParams(model=MODEL, dimensions=dimensions),
                inputs=texts,
                call=Call(id=runtime.ids.new(), grant=Grant.open(), deadline=deadline),
            )
            response = await runtime.gateway(request)
            return tuple(embedding.vector for embedding in response.embeddings)

        return await find_faults(embed)
