"""Which IP addresses belong to the public internet, also where one is wrapped in another."""

from __future__ import annotations

import ipaddress

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48")))
"""A router on the way makes the last 32 bits an IPv4 address (RFC 6052, RFC 8215)."""
_OLD = tuple(map(ipaddress.ip_network, ("::/96", "fec0::/10", "192.88.99.0/24")))
"""IPv4-compatible, site-local and 6to4's anycast: given up, and nobody's on the internet."""


def is_public(text: str) -> bool:
    """Whether *text*, an IP address, and every address that it wraps are of the public internet.

    Raises ValueError if it is no address.
    """
    return all(map(_is_plainly_public, _unwrapped(ipaddress.ip_address(text))))


def _is_plainly_public(address: _Address) -> bool:
    is_old = any(address.version == one.version and address in one for one in _OLD)
    return address.is_global and not address.is_multicast and not is_old


def _unwrapped(address: _Address) -> tuple[_Address, ...]:
    """The addresses that a packet to *address* may end at. One that is mapped is IPv4 alone."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    wrapped: list[_Address] = [address]
    if address.sixtofour is not None:
        wrapped.append(address.sixtofour)
    if any(address in network for network in _NAT64):
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(wrapped)
