"""A real PostgreSQL of the tests' own: on a free port of the loopback address, in a folder of its
own that goes with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from embedway.secret import Secret
from tests.store.redis_server import free_port

PASSWORD = "of-the-tests/@:?#%"  # what has to be escaped in a URL, and never stands in a message
_USER = "embedway"
_FAST = ["-c", "fsync=off"]


def _binaries() -> Path | None:
    """The folder of initdb and postgres; Debian has one for each version, and none in PATH."""
    in_path = shutil.which("postgres")
    if in_path is not None:
        return Path(in_path).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(versions, key=lambda path: int(path.parent.parent.name), default=None)
    return None if newest is None else newest.parent


_BINARIES = _binaries()


def require_postgres() -> None:
    """Skip the test where there is no server to start; in CI it has to be there."""
    if _BINARIES is None and os.environ.get("CI") != "true":
        pytest.skip("no postgresql is installed")


class PostgresServer:
    """Starts at once. Keeps its port and its data when it is started again.

    is_durable: whether commits wait for the disk, as they do elsewhere by default. Without, they
    outlive the server all the same, only not the machine.
    """

    def __init__(self, *, is_durable: bool = False) -> None:
        assert _BINARIES is not None, "CI needs a postgresql: .ci/run installs it"
        self._binaries = _BINARIES
        self._options = [] if is_durable else _FAST
        self._folder = Path(tempfile.mkdtemp(prefix="embedway-postgres-"))
        self._identity = _give_away(self._folder)
        self._frozen: list[int] = []
        self._databases = 0
        self._spare: dict[str, list[str]] = {}
        self.port = free_port()
        self._initialise()
        self.start()

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> Secret:
        """Where a database is."""
        address = f"{_USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"
        return Secret(f"postgresql://{address}")

    @contextmanager
    def database(self, encoding: str = "UTF8") -> Iterator[Secret]:
        """The URL of an empty database, emptied again at the end: to make one takes far longer."""
        spare = self._spare.setdefault(encoding, [])
        name = spare.pop() if spare else self._create(encoding)
        try:
            yield self.url(name)
        finally:
            self._empty(name)
            spare.append(name)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement outside of any transaction; what it finds."""
        with psycopg.connect(self.url(database).reveal(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        command = [self._binaries / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._process = subprocess.Popen(
            [*command, *self._options], stderr=subprocess.PIPE, text=True, **self._identity
        )
        self._heard: list[str] = []
        self._is_told = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._is_told.wait()
        assert self._process.poll() is None, "".join(self._heard)

    def stop(self) -> None:
        """End it as an administrator would, without waiting for its clients."""
        self.thaw()
        self._process.send_signal(signal.SIGINT)
        self._wait()

    def kill(self) -> None:
        """End it and all of its processes at once."""
        self.thaw()
        for pid in self._pids():
            with suppress(ProcessLookupError):  # those of the server end with it
                os.kill(pid, signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """It takes connections, since the kernel does, and answers nothing."""
        self._frozen = self._pids()
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    def remove(self) -> None:
        """End it and delete its data, of which it need not write down anything any more."""
        self.thaw()
        self._process.send_signal(signal.SIGQUIT)
        self._wait()
        shutil.rmtree(self._folder)

    def _initialise(self) -> None:
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)  # its folder is closed to others
        command = [self._binaries / "initdb", "-D", self._folder / "data", "-U", _USER]
        command += ["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"]
        command += ["--locale=C", "--no-sync", "--no-instructions"]
        ended = subprocess.run(command, capture_output=True, text=True, **self._identity)
        assert ended.returncode == 0, ended.stderr

    def _create(self, encoding: str) -> str:
        self._databases += 1
        name = f"test_{self._databases}"
        self.run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
        return name

    def _empty(self, name: str) -> None:
        self.run(f"ALTER DATABASE {name} RESET ALL")
        others = f"datname = '{name}' AND pid <> pg_backend_pid()"
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        self.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public", name)

    def _listen(self) -> None:
        """Hear it out, since it would stand still once nobody does."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._heard.append(line)
            if "ready to accept connections" in line:
                self._is_told.set()
        self._process.wait()
        self._is_told.set()

    def _wait(self) -> None:
        self._process.wait()
        self._listener.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _pids(self) -> list[int]:
        """The server's, which comes first so that it starts no more, and its processes'."""
        rows = self.run("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        return [self._process.pid, *(pid for (pid,) in rows)]


def _give_away(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: let another user have the folder, and run as that one."""
    if os.geteuid() != 0:
        return {"cwd": folder}
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"cwd": folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
