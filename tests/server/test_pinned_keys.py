"""What a key may not do, it may not do through the whole gateway either."""

from __future__ import annotations

import pytest

from embedway.server.app import App
from tests.asgi import MODEL, bearer, embed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_key_without_fallbacks(own: App) -> None:
    """A request that names a fallback is 403 for a key that may not use any, and its client is
    told not to try again."""
    _, secret = own.runtime.keys.create("ci", allows_fallbacks=False)
    refused = await embed(own, bearer(secret), gateflow={"fallbacks": ["text-embedding-3-small"]})

    assert (refused.status, refused.error["code"]) == (403, "insufficient_permissions")
    assert refused.error["param"] == "gateflow.fallbacks"
    assert refused.headers["x-should-retry"] == "false"
    assert (await embed(own, bearer(secret))).status == 200


async def test_a_key_of_one_space(own: App) -> None:
    """What would live in another space than the key's is 409, and its client is told not to try
    again; the same input in the key's space is answered, cached or not."""
    _, free = own.runtime.keys.create("free")
    _, pinned = own.runtime.keys.create("ci", space=f"{MODEL}@64")
    for _ in range(2):
        assert (await embed(own, bearer(free))).status == 200  # known from here on
        refused = await embed(own, bearer(pinned))
        assert (refused.status, refused.error["code"]) == (409, "space_mismatch")
        assert refused.error["type"] == "invalid_request_error"
        assert refused.headers["x-should-retry"] == "false"
        answered = await embed(own, bearer(pinned), dimensions=64)
        assert answered.status == 200
        assert answered.headers["x-embedway-space"] == f"{MODEL}@64"
