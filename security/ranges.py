"""Which network addresses the egress client may connect to. Pure: no names, no sockets.

Sources: the IANA special-purpose registries (RFC 6890 and later), RFC 4291 (embedded IPv4), RFC 6052 (NAT64),
RFC 3056 (6to4), and the metadata addresses of the large clouds.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def _nets(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Never a server, whoever asks.
_NEVER = _nets(
    "0.0.0.0/8",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "::/128",
    "ff00::/8",
    "100::/64",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
)
# The machine's own credentials: closed even where private ranges are open.
_METADATA = _nets(
    "169.254.169.254/32",
    "169.254.170.2/32",
    "169.254.170.23/32",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fd00:ec2::254/128",
)
_PRIVATE = _nets(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "::1/128",
    "2001::/23",  # Teredo, ORCHID and other protocol assignments
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
)
_NAT64 = IPv6Network("64:ff9b::/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv6 form of it (mapped, compatible, translated, NAT64, 6to4, ISATAP)."""
    if isinstance(address, IPv4Address):
        return address
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or address in _TRANSLATED:
        return low
    if number >> 32 == 0 and number > 1:  # ::a.b.c.d
        return low
    if (number >> 32) & 0xFCFFFFFF == 0x00005EFE:  # …:0:5efe:a.b.c.d, with or without the universal bit
        return low
    return address


def parse(text: str) -> Address | None:
    """An address from its text, without its zone; None if it is none."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def closed(text: str, private: bool, opened: tuple[Network, ...] = ()) -> str | None:
    """Why an address must not be connected to, or None if it may.

    Args:
        private: private, link-local and loopback ranges are open.
        opened: ranges that an admin opened for everyone.
    """
    outer = parse(text)
    if outer is None:
        return "unreadable"
    address = unwrap(outer)
    if any(address in net for net in opened if net.version == address.version):
        return None
    for reason, nets in (("reserved", _NEVER), ("metadata", _METADATA), ("private", () if private else _PRIVATE)):
        if any(address in net for net in nets if net.version == address.version):
            return reason
    return None


def is_loopback(text: str) -> bool:
    """True for 127.0.0.0/8, ::1 and their embedded forms."""
    address = parse(text)
    return address is not None and unwrap(address).is_loopback
