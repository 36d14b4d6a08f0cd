"""The model that a run asks, the way to ask it, and what will decide its vectors."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Iterable

from embedway.catalog import Catalog, Model
from embedway.cli.filling import Limits, Tell, fill
from embedway.cli.journal import Header, Journal
from embedway.cli.readers import Row
from embedway.cli.served import look_around
from embedway.clock import SystemClock
from embedway.errors import UnsupportedDimensions
from embedway.runtime import open_runtime
from embedway.settings import Settings
from embedway.types import Call, EmbedParams, EmbedRequest, EmbedResponse, Grant

LOCAL_REQUESTS = 2  # one is computed while the next is read
REMOTE_REQUESTS = 8


class Job:
    """The model and the way to ask it, the same for all texts."""

    def __init__(self, arguments: Namespace, settings: Settings, catalog: Catalog) -> None:
        served = look_around(settings, catalog)
        model = served.directory.look_up_served(arguments.model).model
        self._settings = settings
        self._params = EmbedParams(
            model=model.id, dimensions=arguments.dimensions, input_type=arguments.input_type
        )
        self.header = _header(model, self._params)
        self._limits = _limits(arguments, served.accounts[model.id])
        self.clock = SystemClock()

    def fill(self, rows: Iterable[Row], journal: Journal, tell: Tell) -> None:
        """Open the gateway and embed what the journal does not have."""
        asyncio.run(self._fill(rows, journal, tell))

    async def _fill(self, rows: Iterable[Row], journal: Journal, tell: Tell) -> None:
        async with open_runtime(self._settings, clock=self.clock) as runtime:

            async def ask(inputs: tuple[str, ...]) -> EmbedResponse:
                timeout_s = self._settings.server.request_timeout_s
                deadline = runtime.clock.monotonic() + timeout_s
                call = Call(id=runtime.ids.new(), grant=Grant.open(), deadline=deadline)
                request = EmbedRequest(params=self._params, inputs=inputs, call=call)
                return await runtime.gateway(request)

            await fill(rows, journal, ask, self._limits, self.clock.monotonic, tell)


def _header(model: Model, params: EmbedParams) -> Header:
    """What will be in every vector. Raises UnsupportedDimensions before anything is written."""
    dimensions = params.dimensions or model.dimensions.default
    if not model.allows_dimensions(dimensions):
        raise UnsupportedDimensions(
            f"{model.id} gives vectors of {model.allowed_text} dimensions, not {dimensions}."
        )
    input_type = (params.input_type or model.input_type_default) if model.input_types else None
    return Header(
        model=model.id, dimensions=dimensions, input_type=input_type, revision=model.revision
    )


def _limits(arguments: Namespace, accounts: tuple[str, ...]) -> Limits:
    usual = LOCAL_REQUESTS if "local" in accounts else REMOTE_REQUESTS
    return Limits(inputs=arguments.batch_inputs, requests=arguments.concurrency or usual)
