"""Networks as text: one form each, and no caller in one by a detour."""

import pytest

from embedway.networks import covers, is_within, network_of


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
    ],
)
def test_forms(text, form):
    """A network has one form, and an IPv4 one written as IPv6 is IPv4."""
    assert str(network_of(text)) == form
    assert str(network_of(form)) == form


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "neither an IP address nor a network such as 10.0.0.0/8"),
        ("localhost", "neither"),
        ("10.0.0", "neither"),
        ("10.0.0.0/33", "neither"),
        ("10.0.0.0/-1", "neither"),
        (" 10.0.0.0/8", "neither"),
        ("010.0.0.1", "neither"),
        ("10.0.0.*", "neither"),
        ("10.0.0.0-10.0.0.9", "neither"),
        ("2001:db8::/129", "neither"),
        ("10.1.2.3/8", "write 10.0.0.0/8 for all of it"),
        ("2001:db8::1/32", "write 2001:db8::/32 for all of it"),
    ],
)
def test_no_networks(text, told):
    """What is no network is refused with what to write."""
    with pytest.raises(ValueError, match=told):
        network_of(text)


NETWORKS = ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")


@pytest.mark.parametrize(
    "address",
    ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "::FFFF:a01:203"],
)
def test_within(address):
    """An address of one of the networks is within, also an IPv4 one that a socket shows as
    IPv6."""
    assert is_within(address, NETWORKS)


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "testclient",
        "11.0.0.0",
        "9.255.255.255",
        "192.0.2.8",
        "2001:db9::1",
        "::10.1.2.3",
        "64:ff9b::10.1.2.3",
        "10.1.2.3:80",
        "10.1.2.3/8",
        "10.1.2.3, 192.0.2.7",
        "010.1.2.3",
        "\x0010.1.2.3",
    ],
)
def test_outside(address):
    """What is elsewhere, or no address at all, is outside."""
    assert not is_within(address, NETWORKS)


def test_none():
    """Nobody is within no network."""
    assert not is_within("10.1.2.3", ())


@pytest.mark.parametrize(
    ("outer", "inner", "is_covered"),
    [
        (("10.0.0.0/8",), ("10.1.0.0/16", "10.2.3.4/32"), True),
        (("10.0.0.0/8", "::/0"), ("10.0.0.0/8", "::1/128"), True),
        (("0.0.0.0/0",), (), True),
        (("10.0.0.0/8",), ("10.0.0.0/7",), False),
        (("10.0.0.0/8",), ("10.1.0.0/16", "11.0.0.1/32"), False),
        (("0.0.0.0/0",), ("::1/128",), False),
        (("::/0",), ("10.0.0.1/32",), False),
        ((), ("10.0.0.1/32",), False),
    ],
)
def test_covers(outer, inner, is_covered):
    """Networks cover others if each of those lies in one of them."""
    assert covers(outer, inner) is is_covered
