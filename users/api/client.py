"""From where a request comes: the address that the trusted proxies vouch for, and the device's own name."""

import re
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request

from users.application import addresses

MAX_USER_AGENT = 256
_BRACKETED = re.compile(r"\[([^\]]*)\](?::\d{1,5})?")
_WITH_PORT = re.compile(r"([\d.]+):\d{1,5}")


@dataclass(frozen=True, slots=True)
class Client:
    """`address` in one spelling, empty where there is none; `user_agent` as the device says, cut short."""

    address: str
    user_agent: str


def client_of(request: HttpRequest | Request) -> Client:
    """Whom the request comes from. Every proxy adds to X-Forwarded-For, on the right, the peer that it saw:
    behind TRUSTED_PROXIES=n of them the n-th entry from the right is true, and all that stands further left
    is what anybody may have written. With fewer entries, or a malformed one, not all of the proxies were
    passed, and only the peer is sure."""
    peer = _address(request.META.get("REMOTE_ADDR") or "")
    agent = request.META.get("HTTP_USER_AGENT") or ""
    return Client(_forwarded(request) or peer, _printable(agent))


def _forwarded(request: HttpRequest | Request) -> str:
    proxies: int = settings.TRUSTED_PROXIES or 0
    entries = (request.META.get("HTTP_X_FORWARDED_FOR") or "").split(",")
    return _address(entries[-proxies]) if 0 < proxies <= len(entries) else ""


def _address(text: str) -> str:
    """In one spelling, without brackets and port; empty for what is no address."""
    text = text.strip()
    within = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
    return str(addresses.parse(within[1] if within else text) or "")


def _printable(text: str) -> str:
    return "".join(character for character in text[:MAX_USER_AGENT] if character.isprintable()).strip()
