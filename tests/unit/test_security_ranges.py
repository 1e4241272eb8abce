"""Which addresses are closed: every written form of a private address counts as that address."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from security.ranges import closed, is_loopback

HOSTILE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "100.100.100.200",
    "169.254.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.7",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.4",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "0:0:0:0:0:ffff:7f00:1",
    "::ffff:0:127.0.0.1",
    "::ffff:10.1.2.3",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "2001::1",
    "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2606:4700::5efe:7f00:1",
    "fc00::1",
    "fd12:3456::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "not-an-address",
    "",
]


@pytest.mark.parametrize("address", HOSTILE)
def test_closed_without_the_private_right(address: str) -> None:
    assert closed(address, False) is not None


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111"])
def test_public_addresses_are_open(address: str) -> None:
    assert closed(address, False) is None


@pytest.mark.parametrize("address", ["64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"])
def test_forms_of_public_addresses_are_open(address: str) -> None:
    assert closed(address, False) is None


@pytest.mark.parametrize(
    ("address", "open_for_admin"),
    [
        ("127.0.0.1", True),
        ("10.0.0.1", True),
        ("100.64.0.1", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.168.0.1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("100.100.100.200", False),
        ("fd00:ec2::254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
    ],
)
def test_private_right_opens_servers_but_not_credentials(address: str, open_for_admin: bool) -> None:
    assert (closed(address, True) is None) == open_for_admin


def test_a_listed_range_is_open_also_in_its_embedded_form() -> None:
    opened = (ip_network("198.18.0.0/15"),)
    assert closed("198.18.0.7", False, opened) is None
    assert closed("::ffff:198.18.0.7", False, opened) is None
    assert closed("198.17.0.7", False, opened) is None
    assert closed("10.0.0.1", False, opened) == "private"


def test_loopback_in_every_form() -> None:
    assert all(is_loopback(text) for text in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback(text) for text in ("10.0.0.1", "8.8.8.8", "x"))
