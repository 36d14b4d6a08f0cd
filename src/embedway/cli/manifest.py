"""What a finished output holds, kept beside it, so that a later run embeds only what is new."""

from __future__ import annotations

from hashlib import blake2b, file_digest
from pathlib import Path

import orjson
from msgspec import Struct, structs

from embedway.cli.journal import DIGEST_BYTES, Header

_KIND = "embedway manifest 1"


class Manifest(Struct, frozen=True, kw_only=True):
    """An output's rows in order, and a checksum that tells whether it is still the same file."""

    header: Header
    content: str
    """A digest of all ids and texts in order."""
    checksum: str
    """Of the output's bytes."""
    digests: bytes
    """The digest of each row's text, one after the other."""

    def names(self) -> list[bytes]:
        """The digests, one a row."""
        whole = self.digests
        return [whole[i : i + DIGEST_BYTES] for i in range(0, len(whole), DIGEST_BYTES)]


def manifest_path(output: Path) -> Path:
    """Where the manifest of *output* is kept."""
    return output.with_name(f"{output.name}.manifest")


def checksum(path: Path) -> str:
    """A digest of the file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """A JSON line, then the digests."""
    line = {
        "kind": _KIND,
        "header": structs.asdict(manifest.header),
        "content": manifest.content,
        "checksum": manifest.checksum,
    }
    path.write_bytes(orjson.dumps(line) + b"\n" + manifest.digests)


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in *path*; None if there is none that can be understood."""
    try:
        line, _, digests = path.read_bytes().partition(b"\n")
        found = orjson.loads(line)
        if found.pop("kind") != _KIND or len(digests) % DIGEST_BYTES:
            return None
        return Manifest(header=Header(**found.pop("header")), digests=digests, **found)
    except (FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
        return None
