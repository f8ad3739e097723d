"""Where messages may be sent. Whoever may name an address must not reach by it what only we can reach."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

from users.application.errors import InvalidWebhook

# IANA's special-purpose registries. `is_global` alone differs between patch versions of Python.
_REFUSED = [
    ip_network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's own services: public by its number, reached from inside alone
        # Teredo and other protocol assignments, documentation, 6to4, documentation
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_MAX_URL = 2000
_MAX_HOST = 253
_LABEL = re.compile(r"[0-9A-Za-z_-]{1,63}")
_NUMERIC_HOST = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", re.IGNORECASE)


def is_public(address: str) -> bool:
    """Whether an IP address is anybody's, reachable from everywhere. Forms that carry an IPv4 address are
    judged by that one, or refused where they are of no use any more."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if inner := _carried(ip):
            return is_public(str(inner))
        if ip not in _UNICAST:
            return False
    listed = any(ip in block for block in _REFUSED if block.version == ip.version)
    return ip.is_global and not ip.is_multicast and not listed


def _carried(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped


class AddressRules:
    """`private_addresses`: for development and tests, or receivers inside the same network; plain HTTP is
    then allowed too."""

    def __init__(self, *, private_addresses: bool) -> None:
        self._private = private_addresses

    def check_url(self, url: str) -> None:
        """By its form: names are resolved only when something is sent. Raises InvalidWebhook."""
        if len(url) > _MAX_URL:
            raise _refused("too_long", f"An address has at most {_MAX_URL} characters.")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise _refused("invalid", "This is no address; international ones are written in ASCII.")
        try:
            parsed = httpx.URL(url)
            host = parsed.host  # which decodes A-labels, and refuses some
        except (httpx.InvalidURL, ValueError):
            raise _refused("invalid", "This is no address.") from None
        self._check_parts(parsed)
        if not self.allows_name(host):
            raise _refused("private_address", "This address is not a public one.")

    def _check_parts(self, url: httpx.URL) -> None:
        if not self.allows_scheme(url.scheme):
            raise _refused("scheme", "An address begins with https://.")
        if not _is_host(url.raw_host.decode("ascii")):
            raise _refused("invalid", "This address names no host.")
        if url.userinfo:
            raise _refused("credentials", "An address has no name or password in it.")
        if url.port is not None and not 0 < url.port < 2**16:
            raise _refused("invalid", "A port is a number from 1 to 65535.")
        if url.fragment:
            raise _refused("invalid", "An address has no fragment.")

    def allows_scheme(self, scheme: str) -> bool:
        return scheme == "https" or (self._private and scheme == "http")

    def allows(self, address: str) -> bool:
        """Whether a message may go to this IP address."""
        return self._private or is_public(address)

    def allows_name(self, host: str) -> bool:
        """As far as the name itself says: an IP address, or one in disguise (`127.1`, `0x7f000001`)."""
        if self._private:
            return True
        try:
            return is_public(host)
        except ValueError:
            name = host.rstrip(".").lower()
            return not (_NUMERIC_HOST.search(host) or name == "localhost" or name.endswith(".localhost"))


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        name = text.removesuffix(".")
        return len(name) <= _MAX_HOST and all(map(_LABEL.fullmatch, name.split(".")))
    return True


def _refused(reason: str, message: str) -> InvalidWebhook:
    return InvalidWebhook("url", reason, message)
