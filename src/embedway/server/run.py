"""Serves the application with uvicorn: socket, signals, start and stop."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from msgspec import Struct

from embedway.logs import start_logs
from embedway.origins import Origins
from embedway.runtime import Runtime, open_runtime
from embedway.server.app import App
from embedway.server.auth import is_loopback
from embedway.server.receipt import bounded, patience, watch

_BACKLOG = 2048
_COLLECT_AFTER = 500_000
"""New objects, less those gone, after which the youngest are looked at: more than the requests
under way hold at once. None of them is garbage (`tests/server/test_garbage.py`), and to look at all
of them holds the event loop for a tenth of a second."""
_SEND_BUFFER_BYTES = 256 * 2**10
"""What the system keeps of an answer that is not read; by itself it would keep megabytes, and tell
so late that some of them were read that a slow caller would seem to read nothing."""
_LAST_WORDS_S = 1.0
"""How long requests that were cancelled may take to say so."""


class ListenError(ValueError):
    """The address cannot be listened on. The message says what to do."""


class Ready(Struct, frozen=True):
    """The server accepts connections at `url`."""

    url: str
    runtime: Runtime
    is_open: bool
    """Whether no key was ever made, so that every loopback caller is let in."""


def serve(loaded: Origins, on_ready: Callable[[Ready], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests in flight.

    Raises ListenError, and what `open_runtime` raises.
    """
    settings = loaded.settings
    start_logs(settings.log, sys.stderr)
    host, port = parse_address(settings.server.listen)
    with bind(host, port) as listener:
        app = App(
            lambda: open_runtime(settings),
            is_loopback_only=is_loopback(host),
            origin=loaded.origin,
        )
        _allow_files()
        bounds = patience(settings.server)
        config = uvicorn.Config(
            app,
            loop="auto",
            http=bounded(bounds, lambda: app.door),
            ws="none",
            lifespan="off",  # opened in `_Server.startup`, where a failure keeps its class
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nothing here believes what a header says of the peer
            timeout_keep_alive=math.ceil(bounds.idle_s),
            timeout_graceful_shutdown=math.ceil(settings.server.drain_s),
            backlog=_BACKLOG,
        )
        url = _url(host, listener.getsockname()[1])
        server = _Server(config, app, on_ready, url, bounds.look_every_s)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Opens the runtime before it listens, and closes it after the last answer."""

    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        on_ready: Callable[[Ready], None],
        url: str,
        look_every_s: float,
    ) -> None:
        super().__init__(config)
        self._look_every_s = look_every_s
        self._app = app
        self._on_ready = on_ready
        self._url = url

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Both signals stop the server; uvicorn's own would raise them again at the end, so that a
        drained stop would look like a crash."""
        is_main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if is_main else ()
        before = [(one, signal.signal(one, self.handle_exit)) for one in signals]
        try:
            yield
        finally:
            for one, handler in before:
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets the requests in flight end, the second one does not: uvicorn's own
        takes only a second SIGINT for that."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.connections = self.server_state.connections
        runtime = await self._app.start()
        is_open = await self._app.is_open()
        if not is_open and not await self._app.has_keys():
            await self._app.stop()
            raise ListenError(
                f"{self._url} is not a loopback address, and there is no key yet. Create one "
                "with 'embedway keys create NAME', or listen on 127.0.0.1"
            )
        _calm_collector()
        await super().startup(sockets)
        self._watching = asyncio.create_task(
            watch(self.server_state.connections, self._look_every_s, runtime.clock.sleep)
        )
        self._on_ready(Ready(self._url, runtime, is_open))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.server_state.tasks and not self.force_exit:
            # The time is over and they are cancelled: each still says so to its caller.
            await asyncio.wait(self.server_state.tasks, timeout=_LAST_WORDS_S)
        self._watching.cancel()
        await self._app.stop()


def _allow_files() -> None:
    """As many open files, which connections are, as the system allows: 1,024 is usual else."""
    if sys.platform == "win32":  # there sockets are not files
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS may say "unlimited" and mean fewer
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _calm_collector() -> None:
    """Look for cyclic garbage seldom: with 64 requests in flight the default of 700 new objects
    looks at the same living ones again and again, a sixth of the time of a request
    (`bench/proxy.py`, case S). What exists by now lives as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 10, 10)


def parse_address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:port`, or a host alone. Raises ListenError."""
    host, colon, port = listen.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = listen, "1536"
    try:
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535 or not host:
        raise ListenError(
            f"server.listen is {listen!r}; it must be an address and a port, such as 127.0.0.1:1536"
        )
    return host.strip("[]"), number


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ListenError."""
    with suppress(ValueError):
        host = str(ipaddress.ip_address(host))
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections have what their listener has.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        return listener
    except OSError as error:
        hint = "; is embedway already running? Choose another with --port"
        taken = hint if "in use" in str(error).lower() else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenError(f"cannot listen on {host}:{port}: {reason}{taken}") from None


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
