"""The keys we issued. Only a keyed hash of each is kept; the text is shown once."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import orjson
from msgspec import Struct
from sqlalchemy import (
    Engine,
    Executable,
    RowMapping,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from embedway.clock import Clock
from embedway.errors import InvalidRequest, NotFound
from embedway.networks import network_of
from embedway.secret import Secret
from embedway.store.database import KEYS, StoreError
from embedway.store.transactions import reading, writing

KeyType = Literal["prod", "dev", "admin"]
DEFAULT_PROJECT = "default"
_PROJECT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PEPPER_BYTES = 32
_LISTS = ("models", "providers", "ips")
"""Kept as JSON."""


def is_project(name: str) -> bool:
    """Whether a key may belong to a project of that name. None can be taken for another scope of
    the cache, which are "*" and "key:…"."""
    return _PROJECT.fullmatch(name) is not None


class Key(Struct, frozen=True, kw_only=True):
    """One key, without its text. Times are milliseconds since 1970, UTC."""

    id: str
    name: str
    type: KeyType
    hash: bytes
    created_ms: int
    models: tuple[str, ...] | None = None
    expires_ms: int | None = None
    revoked_ms: int | None = None
    project: str = DEFAULT_PROJECT
    allows_fallbacks: bool = True
    space: str | None = None
    providers: tuple[str, ...] | None = None
    """Accounts that may serve it; None: all."""
    ips: tuple[str, ...] | None = None
    """Networks it may be used from, such as 10.0.0.0/8; None: all."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    """Requests at a time."""
    last_used_ms: int | None = None
    """To the minute."""
    previous_hash: bytes | None = None
    """Of the text before the last rotation."""
    previous_until_ms: int | None = None
    """How long that text still works."""

    @property
    def prefix(self) -> str:
        """The part of the text that may be shown again."""
        return f"gw_{self.type}_{self.id}_…"

    def state(self, now_ms: float) -> Literal["active", "expired", "revoked"]:
        """What the key is good for at that time."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and self.expires_ms <= now_ms else "active"


class KeyStore:
    """Creates, lists and revokes keys. Blocking: call it off the event loop."""

    def __init__(
        self,
        engine: Engine,
        pepper: Secret,
        clock: Clock,
        random_text: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._engine = engine
        self._pepper = pepper.reveal().encode()
        self._clock = clock
        self._random_text = random_text

    def create(
        self,
        name: str,
        *,
        type: KeyType = "prod",
        models: tuple[str, ...] | None = None,
        expires_ms: int | None = None,
        project: str = DEFAULT_PROJECT,
        allows_fallbacks: bool = True,
        space: str | None = None,
        providers: tuple[str, ...] | None = None,
        ips: tuple[str, ...] | None = None,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        concurrency: int | None = None,
    ) -> tuple[Key, Secret]:
        """Make a key of 256 random bits. The second value is the only copy of its text.

        Raises ValueError if one of *ips* is no network, and StoreError.
        """
        key_id = self._random_text(6)
        text = self._new_text(type, key_id)
        key = Key(
            id=key_id,
            name=name,
            type=type,
            hash=self.hash(text.encode()),
            created_ms=int(self._clock.now() * 1000),
            models=models,
            expires_ms=expires_ms,
            project=project,
            allows_fallbacks=allows_fallbacks,
            space=space,
            providers=providers,
            ips=None if ips is None else tuple(str(network_of(one)) for one in ips),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrency=concurrency,
        )
        row = {field: getattr(key, field) for field in Key.__struct_fields__}
        for field in _LISTS:
            row[field] = None if row[field] is None else orjson.dumps(row[field]).decode()
        self._write(insert(KEYS).values(row))
        return key, Secret(text)

    def all(self) -> tuple[Key, ...]:
        """Every key ever made, oldest first. Raises StoreError."""
        with reading(self._engine, "the keys") as connection:
            ordered = select(KEYS).order_by(KEYS.c.created_ms, KEYS.c.id)
            rows = connection.execute(ordered).mappings().all()
        return tuple(_key(row) for row in rows)

    def find(self, id_or_name: str) -> tuple[Key, ...]:
        """The keys of that id or name, oldest first; names need not differ. Raises StoreError."""
        return tuple(key for key in self.all() if id_or_name in (key.id, key.name))

    def rotate(self, id: str, *, overlap_s: float) -> tuple[Key, Secret]:
        """Give the key another text; the second value is the only copy of it.

        The key stays what it is: its id, its terms, its budgets and what was spent of them. The
        text that it had works *overlap_s* seconds longer; one from before that, no more. Raises
        NotFound, InvalidRequest if the key is not active, and StoreError.
        """
        now_ms = int(self._clock.now() * 1000)
        with writing(self._engine, "the keys") as connection:
            of_id = KEYS.c.id == id
            found = connection.execute(select(KEYS).where(of_id)).mappings().one_or_none()
            if found is None:
                raise NotFound("There is no key of that id.", param="id")
            key = _key(found)
            if (state := key.state(now_ms)) != "active":
                raise InvalidRequest(
                    f"The key {key.id} ({key.name}) is {state}; make a new one in its place.",
                    param="id",
                )
            text = self._new_text(key.type, key.id)
            # The hash is moved by the database, so that of two rotations at once none is lost.
            connection.execute(
                update(KEYS)
                .where(of_id)
                .values(
                    previous_hash=KEYS.c.hash,
                    previous_until_ms=now_ms + int(overlap_s * 1000),
                    hash=self.hash(text.encode()),
                )
            )
            rotated = connection.execute(select(KEYS).where(of_id)).mappings().one()
        return _key(rotated), Secret(text)

    def revoke(self, id_or_name: str) -> tuple[Key, ...]:
        """Revoke the active keys of that id or name; returns them, none if there was none."""
        matching = or_(KEYS.c.id == id_or_name, KEYS.c.name == id_or_name)
        chosen = [key for key in self.find(id_or_name) if key.revoked_ms is None]
        self._write(
            update(KEYS)
            .where(matching, KEYS.c.revoked_ms.is_(None))
            .values(revoked_ms=int(self._clock.now() * 1000))
        )
        return tuple(chosen)

    def mark_used(self, used_ms: Mapping[str, int]) -> None:
        """Note when keys, by id, were used last (milliseconds since 1970). Raises StoreError."""
        later = or_(KEYS.c.last_used_ms.is_(None), KEYS.c.last_used_ms < bindparam("used_ms"))
        statement = (
            update(KEYS)
            .where(KEYS.c.id == bindparam("key_id"), later)
            .values(last_used_ms=bindparam("used_ms"))
        )
        with writing(self._engine, "the keys") as connection:
            connection.execute(
                statement, [{"key_id": id, "used_ms": when} for id, when in used_ms.items()]
            )

    def _new_text(self, type: KeyType, key_id: str) -> str:
        return f"gw_{type}_{key_id}_{self._random_text(32)}"

    def _write(self, statement: Executable) -> None:
        with writing(self._engine, "the keys") as connection:
            connection.execute(statement)

    def hash(self, text: bytes) -> bytes:
        """HMAC-SHA-256 under the pepper. A fast hash is right for 256 random bits."""
        return hmac.digest(self._pepper, text, hashlib.sha256)


def _key(row: RowMapping) -> Key:
    lists = {name: tuple(orjson.loads(row[name])) if row[name] else None for name in _LISTS}
    return Key(**{**row, **lists})


def load_pepper(home: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> Secret:
    """The key of the hashes, from `pepper` in *home*; made at the first call, readable by its
    owner only. Without it a stolen database does not even tell which keys are the same.

    Raises StoreError if the file is damaged, since no key would be known any more.
    """
    path = home / "pepper"
    if not path.exists():
        _make_pepper(path, random_bytes)
    text = path.read_text("ascii", errors="replace").strip()
    if not re.fullmatch(f"[0-9a-f]{{{2 * _PEPPER_BYTES}}}", text):
        raise StoreError(
            f"{path} is damaged: restore it, or delete it and create all API keys again"
        )
    return Secret(text)


def _make_pepper(path: Path, random_bytes: Callable[[int], bytes]) -> None:
    """Written whole under another name first, then linked, which fails if the name exists: of
    several processes that start at once, one wins, and nobody reads half a file."""
    draft = path.with_name(f"pepper-{random_bytes(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(random_bytes(_PEPPER_BYTES).hex())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
