from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from embedway.origins import Origins
from embedway.server.run import ListenError, bind, parse_address, serve
from embedway.settings import ServerSettings, Settings

FOREIGN = "192.0.2.7"  # an address for documentation (RFC 5737)


def start(home: Path, listen: str) -> None:
    """Serve there; the test expects that it does not come so far."""
    settings = Settings(home=str(home), server=ServerSettings(listen=listen))

    def ready(_: Any) -> None:
        raise AssertionError("it listens")

    serve(Origins(settings=settings, origins={}), ready)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_others_are_not_listened_to_without_a_key(tmp_path: Path, listen: str) -> None:
    """A server that others could reach does not start before there is a key, and says how to make
    one."""
    with pytest.raises(ListenError, match="embedway keys create"):
        start(tmp_path, listen)


def test_a_taken_port_is_told_with_the_way_out(tmp_path: Path) -> None:
    """If the port is taken the message names it and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"127.0.0.1:{port}.*--port"):
            start(tmp_path, f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:1536", ("127.0.0.1", 1536)),
        ("localhost:0", ("localhost", 0)),
        ("0.0.0.0", ("0.0.0.0", 1536)),
        ("[::1]:80", ("::1", 80)),
        ("::1", ("::1", 1536)),
    ],
)
def test_an_address_to_listen_on(listen: str, address: tuple[str, int]) -> None:
    """An address comes with or without a port, IPv6 with or without brackets."""
    assert parse_address(listen) == address


@pytest.mark.parametrize("listen", ["", ":", ":80", "127.0.0.1:port", "a:65536", "a:-1", "a:1.5"])
def test_an_address_that_is_none(listen: str) -> None:
    """What is no address is refused with one that is."""
    with pytest.raises(ListenError, match=r"127\.0\.0\.1:1536"):
        parse_address(listen)


def test_an_address_nobody_has() -> None:
    """An address of another machine cannot be listened on, and the message says so."""
    with pytest.raises(ListenError, match=FOREIGN):
        bind(FOREIGN, 0)
