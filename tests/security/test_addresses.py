"""No name and no setting leads a public account into a network."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from embedway.accounts import base_url_of, provider_of
from embedway.addresses import is_public
from embedway.provider import HttpRequest, TransportError
from embedway.secret import Secret
from embedway.settings import AccountSettings
from embedway.transport import Transport
from embedway.wrong_settings import SettingsError
from tests.security.watch import watching

KEY = "sk-operator-0123456789"
NOT_PUBLIC = [
    "127.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "192.88.99.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:a9fe:a9fe::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


class Leading(AbstractResolver):
    """Every name leads to one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """That address."""
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=kind, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_names_that_lead_inside(address: str) -> None:
    """A public account's name that leads into a network, also through an address that wraps one of
    it, is not connected to."""
    assert not is_public(address)
    async with Transport(Leading(address)) as transport:
        request = HttpRequest("POST", "https://api.example/v1", {"authorization": KEY}, b"x")
        with watching() as seen, pytest.raises(TransportError, match="no public address"):
            await transport(request, timeout_s=5, max_bytes=100)
    assert not seen.connections


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_addresses_in_settings(address: str) -> None:
    """An account that is not private cannot be set to one of them either."""
    host = f"[{address}]" if ":" in address else address
    account = AccountSettings(api_key=Secret(KEY), base_url=f"https://{host}/v1")
    with pytest.raises(SettingsError, match="private = true"):
        base_url_of("openai", account, provider_of("openai", account))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1", "2606:4700::1"]
)
async def test_public_addresses(address: str) -> None:
    """An address of the internet stays one when it is wrapped."""
    assert is_public(address)
