"""A caller who stays on the line: he hangs up only after the answer is whole, as real ones do."""

from __future__ import annotations

import asyncio
from typing import Any


def staying(app: Any) -> Any:
    """*app*, which never hears that such a caller hung up."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        async def stay() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                await asyncio.Event().wait()
            return message

        await app(scope, stay, send)

    return call
