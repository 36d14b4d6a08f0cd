"""The bodies of `/v1/management/cache`: what purging takes, and the answers, as types."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from embedway.server.schemas import Body, Count

Name = Annotated[str, Meta(min_length=1, max_length=256)]
SpaceName = Annotated[str, Meta(min_length=1, max_length=512)]


class Choice(Struct, frozen=True, forbid_unknown_fields=True):
    """Vectors to which everything that is given applies."""

    model: Annotated[Name | None, Meta(description="The model, by any of its names.")] = None
    space: Annotated[SpaceName | None, Meta(description="The space, as it is listed.")] = None
    project: Annotated[
        Name | None, Meta(description="The project; key:ID or * where the scope is another.")
    ] = None


class PurgeBody(Choice, frozen=True, forbid_unknown_fields=True):
    """What to forget. A field that is null counts as absent."""

    all: Annotated[bool | None, Meta(description="True, and nothing else: everything.")] = None


class CacheGroup(Body, frozen=True):
    """How much is kept under one label. `project` is the scope that may read it."""

    model: str
    space: str
    project: str
    vectors: Count
    bytes: Count


class MemoryStats(Body, frozen=True):
    """What this process has in memory."""

    vectors: Count
    bytes: Count
    max_bytes: Count
    groups: list[CacheGroup]


class StoreStats(Body, frozen=True):
    """What outlives the process."""

    kind: Literal["file", "redis"]
    vectors: Count
    bytes: Count
    groups: list[CacheGroup]


class CacheStats(Body, frozen=True):
    """`null` where the settings want none."""

    memory: MemoryStats | None
    store: StoreStats | None


class Purged(Body, frozen=True):
    """How many vectors were forgotten."""

    deleted: Count


class Warmed(Body, frozen=True):
    """How many vectors of the export are in the store now, and how many were too old for it."""

    stored: Count
    expired: Count
