"""Networks of IP addresses, as text: what a key's `ips` say, and who is in them."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def network_of(text: str) -> Network:
    """An address, or a network such as 10.0.0.0/8. Raises ValueError that says what to write."""
    try:
        return _plain(ip_network(text))
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an IP address nor a network such as 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    raise ValueError(f"{text!r} is an address within a network; write {meant} for all of it")


def is_within(address: str | None, networks: tuple[str, ...]) -> bool:
    """Whether *address* lies in one of them; what is no IP address does not."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # how a socket for both kinds shows an IPv4 caller
    return any(found in network for network in _parsed(networks))


def covers(outer: tuple[str, ...], inner: tuple[str, ...]) -> bool:
    """Whether each of *inner* lies in one of *outer*."""
    return all(any(_is_part(one, of) for of in _parsed(outer)) for one in _parsed(inner))


def _is_part(one: Network, of: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(of, IPv4Network) and one.subnet_of(of)
    return isinstance(of, IPv6Network) and one.subnet_of(of)


@lru_cache(1024)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(network_of, networks))


def _plain(network: Network) -> Network:
    """The IPv4 network that an IPv6 one stands for, where it does: callers are seen as that."""
    mapped = network.network_address
    if isinstance(mapped, IPv6Address) and mapped.ipv4_mapped and network.prefixlen >= 96:
        return IPv4Network((mapped.ipv4_mapped, network.prefixlen - 96))
    return network
