"""Gateways as users start them: processes of their own, each with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

MODEL = "local/wordllama-256"

_SETTINGS = """
[providers.openai]
base_url = "{upstream}/v1"
api_key = "the-operators-own"
private = true
"""


@dataclass(frozen=True)
class Gateway:
    """A running gateway. `key` is None where it is open to loopback callers."""

    url: str
    key: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port


@contextmanager
def started(home: Path, upstream: str, *, has_key: bool) -> Iterator[Gateway]:
    """A gateway until the end of the block, with the local model and one account at *upstream*."""
    (home / "embedway.toml").write_text(_SETTINGS.format(upstream=upstream), "utf-8")
    key = _create_key(home) if has_key else None
    with (home / "stderr.txt").open("wb") as log:
        process = subprocess.Popen(
            [*_COMMAND, "serve", "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=home,
            env=_environment(home),
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # the first one says that it takes requests
        assert line, (home / "stderr.txt").read_text("utf-8")
        yield Gateway(json.loads(line)["url"], key)
    finally:
        process.terminate()
        process.communicate(timeout=40)
    said = (home / "stderr.txt").read_text("utf-8")
    assert process.returncode in (0, -15), said
    assert "a bug" not in said, said
    assert "Traceback" not in said, said


_COMMAND = (sys.executable, "-m", "embedway")


def _create_key(home: Path) -> str:
    made = subprocess.run(
        [*_COMMAND, "keys", "create", "clients", "--json"],
        capture_output=True,
        check=True,
        cwd=home,
        env=_environment(home),
    )
    key: str = json.loads(made.stdout)["key"]
    return key


def _environment(home: Path) -> dict[str, str]:
    """Ours without what sets up a gateway or an account."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EMBEDWAY_") and not name.endswith(("_API_KEY", "_TOKEN"))
    }
    kept.pop("PORT", None)
    # All clients ask the same texts, and each is to see what a provider's answer looks like.
    own = {"EMBEDWAY_HOME": str(home), "HOME": str(home), "EMBEDWAY_CACHE_ENABLED": "false"}
    return {**kept, **own}
