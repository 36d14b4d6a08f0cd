"""The server over a cache that fails: answers stay right, and the server stays up."""

import base64
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from embedway.cached import Selection
from embedway.settings import CacheSettings
from tests.asgi import embed, running
from tests.fakes import ScriptedSend, make_vector, until
from tests.server.provider import SMALL, answer, settings
from tests.store.redis_server import RedisServer, require_redis

TEXTS = [f"text {n}" for n in range(40)]


@asynccontextmanager
async def served(home, **changes):
    """An application with an OpenAI account, and what it asked of it."""
    send = ScriptedSend(answer)
    async with running(replace(settings(home), **changes), send=send) as app:
        yield app, send


async def check_right(app, texts=TEXTS):
    """Ask, and see that each vector is its text's; returns how many were known."""
    response = await embed(app, model=SMALL, input=texts, encoding_format="base64")
    assert response.status == 200
    body = response.json()
    given = [base64.b64decode(item["embedding"]) for item in body["data"]]
    assert given == [make_vector(text, dimensions=1536) for text in texts]
    return body["gateflow"]["cache"]["hits"]


async def forget(app):
    """Empty the memory, so that only the store can know."""
    await app.runtime.vectors.flush()
    app.runtime.recent.purge(Selection())


async def test_a_second_start(tmp_path):
    """What was embedded before a restart is answered after it, without the provider."""
    async with served(tmp_path) as (app, _):
        assert await check_right(app) == 0
    async with served(tmp_path) as (app, send):
        assert await check_right(app) == len(TEXTS)
        assert send.requests == []


@pytest.mark.parametrize("garbage", [b"no database", b"\x00" * 65_536])
async def test_a_damaged_file(tmp_path, garbage):
    """A file that is damaged under a running server costs hits, and is begun anew."""
    async with served(tmp_path) as (app, _):
        await check_right(app)
        await forget(app)
        for name in ("vectors.db", "vectors.db-wal"):
            with (tmp_path / name).open("r+b") as file:
                file.write(garbage)
        while await check_right(app) < len(TEXTS):  # the one who writes looks again each second
            await forget(app)
            await app.runtime.clock.sleep(0.1)


async def test_a_damaged_file_at_the_start(tmp_path):
    """A server starts on a damaged file, and keeps what it embeds from then on."""
    (tmp_path / "vectors.db").write_bytes(b"damaged" * 5000)
    async with served(tmp_path) as (app, _):
        assert await check_right(app) == 0
        await forget(app)
        assert await check_right(app) == len(TEXTS)


async def test_no_room_on_the_disk(tmp_path):
    """With no room for a single vector nothing is kept on the disk, and all goes on."""
    async with served(tmp_path, cache=CacheSettings(disk_bytes=1, memory_bytes=0)) as (app, send):
        for _ in range(2):
            assert await check_right(app) == 0
            await forget(app)
        assert len(send.requests) == 2


async def test_redis_gone_and_back(tmp_path):
    """While Redis is gone everything is asked of the provider; when it is back it knows again,
    without a restart of the gateway."""
    require_redis()
    redis = RedisServer(tmp_path)
    try:
        async with served(tmp_path, redis_url=redis.url) as (app, _):
            await check_right(app)
            await forget(app)
            assert await check_right(app) == len(TEXTS)
            redis.stop()
            await forget(app)
            assert await check_right(app) == 0
            redis.start()

            async def is_known():
                await check_right(app)
                await forget(app)
                return await check_right(app) == len(TEXTS)

            # The gateway leaves a Redis alone for a moment after it has failed.
            while not await is_known():
                await until(lambda: True)
                await app.runtime.clock.sleep(0.05)
    finally:
        redis.stop()
