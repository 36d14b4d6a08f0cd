"""A gateway in a process of its own, with settings of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serving(
    work: Path, config: str = "", **server: Any
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address and its process. *server* are settings of the HTTP server, *config* the file."""
    work.mkdir(exist_ok=True)
    (work / "embedway.toml").write_text(config)
    environ = {name: value for name, value in os.environ.items() if "API_KEY" not in name}
    own = {f"EMBEDWAY_SERVER_{name.upper()}": str(value) for name, value in server.items()}
    command = [sys.executable, "-m", "embedway", "serve", "--port", "0", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        cwd=work,
        env={**environ, "EMBEDWAY_HOME": str(work / "home"), **own},
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"], process
        finally:
            process.kill()
