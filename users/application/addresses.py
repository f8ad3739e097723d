"""Network addresses as far as limits, logs and people need them: never more exactly than that."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
"""Holds the IPv4 address of whoever comes through a translator (RFC 6052)."""


def parse(text: str) -> Address | None:
    """The address, without its zone, and as IPv4 where an IPv6 one only wraps that. None for what is none."""
    try:
        address = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        wrapped = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else address.ipv4_mapped
        return wrapped or address
    return address


@lru_cache(maxsize=1024)
def network_of(address: str) -> str:
    """Who counts as one: an IPv4 address, or the /64 that one IPv6 customer has at the least. What is no
    address, such as the peer of a Unix socket, is one as well: all of it together."""
    return _network(address, 32, 64)


@lru_cache(maxsize=1024)
def prefix_of(address: str) -> str:
    """What logs and session lists tell of an address: 192.0.2.0/24, 2001:db8:1::/48; empty for none."""
    return _network(address, 24, 48)


def _network(address: str, length: int, length_6: int) -> str:
    parsed = parse(address)
    if parsed is None:
        return ""
    bits = length if isinstance(parsed, IPv4Address) else length_6
    return str(ip_network((parsed, bits), strict=False))
