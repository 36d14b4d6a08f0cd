"""`embedway cache warm` with texts: asked of the gateway as a key of the project would ask."""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass

from embedway.catalog_file import load_catalog
from embedway.cli.cache_store import why_none
from embedway.cli.corpus import corpus
from embedway.cli.filling import Filled, Limits, Tell, fill
from embedway.cli.job import REMOTE_REQUESTS
from embedway.cli.journal import Header, open_journal
from embedway.cli.plan import make_plan, read_again
from embedway.cli.readers import READERS, Row
from embedway.cli.served import look_around
from embedway.cli.stop import OK, WRONG_USAGE, Stop
from embedway.cli.terminal import Progress, duration
from embedway.clock import SystemClock
from embedway.money import usd_text
from embedway.runtime import open_runtime
from embedway.settings import Settings
from embedway.store.keys import DEFAULT_PROJECT
from embedway.types import Call, EmbedParams, EmbedRequest, EmbedResponse, Grant, replace

_BATCH_INPUTS = 256


@dataclass
class Warmth:
    """What a run did so far. `new`: embedded now; `known`: was in the cache."""

    new: int = 0
    known: int = 0
    tokens: int = 0
    cost: int = 0

    def add(self, filled: Filled) -> int:
        """Count a batch; returns how many different texts it had."""
        for embedding in filled.new.values():
            is_known = embedding.source == "cache"
            self.known += is_known
            self.new += not is_known
            self.tokens += embedding.tokens
            self.cost += embedding.cost
        return len(filled.new)


def warm_texts(arguments: Namespace, settings: Settings) -> int:
    """Embed each text of the file once, unless it is known."""
    _check(arguments, settings)
    clock, warmth = SystemClock(), Warmth()
    started = clock.monotonic()
    texts = corpus([str(arguments.file)], [], column=arguments.column, is_whole=False, stdin=None)
    with closing(texts):
        plan = make_plan(texts)
        progress = Progress(len(plan.unique), clock.monotonic)
        rows = (row for row, _ in read_again(texts, plan))
        with closing(progress):
            asyncio.run(_fill(arguments, settings, rows, lambda f: progress.advance(warmth.add(f))))
    if arguments.json:
        record = {"texts": plan.rows, **asdict(warmth), "cost": usd_text(warmth.cost)}
        print(json.dumps(record))
        return OK
    parts = [
        f"{plan.rows:,} texts",
        f"{warmth.new:,} new",
        f"{warmth.known:,} known",
        f"{warmth.tokens:,} tokens",
        f"${usd_text(warmth.cost)}",
        duration(clock.monotonic() - started),
    ]
    print(f"{arguments.file}: {' · '.join(parts)}", file=sys.stderr)
    return OK


def _check(arguments: Namespace, settings: Settings) -> None:
    """Raise Stop where no later request could be a hit."""
    path, cache = arguments.file, settings.cache
    if path.suffix.lower() not in READERS:
        kinds = ", ".join(READERS)
        raise Stop(f"{path}: neither an export nor a file of texts ({kinds})", WRONG_USAGE)
    if arguments.model is None:
        raise Stop(f"{path} is no export; to embed its texts, give --model", WRONG_USAGE)
    if not cache.enabled or not (cache.disk_bytes or settings.redis_url):
        raise Stop(f"no vectors are kept outside of a gateway's memory: {why_none(settings)}")
    if cache.scope == "key":
        raise Stop(
            "cache.scope is 'key': what is embedded here would be of use to no key", WRONG_USAGE
        )


async def _fill(arguments: Namespace, settings: Settings, rows: Iterable[Row], tell: Tell) -> None:
    """Ask for all rows, and wait until what was made is written."""
    served = look_around(settings, load_catalog())
    model = served.directory.look_up_served(arguments.model).model
    params = EmbedParams(
        model=model.id, dimensions=arguments.dimensions, input_type=arguments.input_type
    )
    if served.accounts[model.id] == ("local",):
        raise Stop(f"{model.id} is as fast as a cache, so that its vectors are kept in memory only")
    limits = Limits(inputs=_BATCH_INPUTS, requests=REMOTE_REQUESTS)
    grant = replace(Grant.open(), project=arguments.project or DEFAULT_PROJECT)
    dimensions = arguments.dimensions or model.dimensions.default
    clock = SystemClock()
    async with open_runtime(settings, clock=clock) as runtime:

        async def ask(inputs: tuple[str, ...]) -> EmbedResponse:
            deadline = clock.monotonic() + settings.server.request_timeout_s
            call = Call(id=runtime.ids.new(), grant=grant, deadline=deadline)
            response = await runtime.gateway(EmbedRequest(params=params, inputs=inputs, call=call))
            if runtime.vectors is not None:
                await runtime.vectors.flush()  # so that never more waits than the store takes
            return response

        with closing(open_journal(Header(model=model.id, dimensions=dimensions), None)) as journal:
            await fill(rows, journal, ask, limits, clock.monotonic, tell)
