"""A real Redis (or Valkey) of a test's own: on a free port of the loopback address, in memory."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from embedway.secret import Secret

_BINARY = shutil.which("redis-server") or shutil.which("valkey-server")


def require_redis() -> None:
    """Skip the test where there is no server to start; in CI it has to be there."""
    if _BINARY is None and os.environ.get("CI") != "true":
        pytest.skip("no redis-server is installed")


def free_port() -> int:
    """A port that nobody listens at.

    Below those that the kernel hands out: while a Redis is down, a connection on its way to it
    could otherwise be given the Redis's own port and connect to itself.
    """
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
                return port


class RedisServer:
    """Starts at once. Keeps its port when it is started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port = free_port()
        self.url = Secret(f"redis://127.0.0.1:{self.port}/0")
        self.client = Redis(port=self.port, socket_timeout=10)
        """For what a test does or sees behind the store's back; blocking."""
        self.start()

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        assert _BINARY is not None, "CI needs a redis-server: .ci/run installs it"
        command = [_BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._folder), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        heard = []
        for line in self._process.stdout:
            heard.append(line)
            if "Ready to accept connections" in line:
                return
        raise AssertionError("".join(heard))

    def restart(self) -> None:
        """Start it again, with nothing in it."""
        self.stop()
        self.start()

    def stop(self, signal_number: int = signal.SIGKILL) -> None:
        """End it, and wait for its end."""
        self.client.close()
        self._process.send_signal(signal.SIGCONT)  # a frozen one would not end
        self._process.send_signal(signal_number)
        self._process.communicate()

    def freeze(self) -> None:
        """It takes connections, since the kernel does, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        self._process.send_signal(signal.SIGCONT)

    def limit_memory(self, more: int, policy: str) -> None:
        """Allow it *more* bytes than it uses now."""
        used: dict[str, Any] = self.client.info("memory")  # type: ignore[assignment]
        self.client.config_set("maxmemory-policy", policy)
        self.client.config_set("maxmemory", used["used_memory"] + more)
