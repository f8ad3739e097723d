"""Conditional requests (RFC 9110, 13): a user's ETag is the strong tag of his version."""

import re

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

from users.api.errors import PreconditionRequired
from users.application.versions import ANY_VERSION

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")
_STRONG_VERSION = re.compile(r'"([1-9][0-9]{0,9})"', re.ASCII)
NO_VERSION = frozenset({0})
"""Matches no user: for tags that are well-formed but never ours."""


def etag(version: int) -> str:
    return f'"{version}"'


def expected_versions(request: Request) -> frozenset[int]:
    """As `versions_in`, of its If-Match."""
    return versions_in(request.META.get("HTTP_IF_MATCH"))


def versions_in(header: str | None) -> frozenset[int]:
    """The versions that an If-Match names; empty for any. Weak and foreign tags match nothing.
    Raises ParseError when it is malformed, PreconditionRequired when it is missing and must not be."""
    if header is None:
        if settings.REQUIRE_IF_MATCH:
            raise PreconditionRequired
        return ANY_VERSION
    if header.strip() == "*":
        return ANY_VERSION
    strong = (_STRONG_VERSION.fullmatch(tag) for tag in _tags(header, "If-Match"))
    return frozenset(int(found[1]) for found in strong if found) or NO_VERSION


def is_known(request: Request, version: int) -> bool:
    """Whether If-None-Match says that the caller has this version already."""
    return has_tag(if_none_match(request), etag(version))


def if_none_match(request: Request) -> str:
    """The header as it came; empty where there is none."""
    header: str = request.META.get("HTTP_IF_NONE_MATCH", "")
    return header


def names_tags(if_none_match: str) -> bool:
    """Whether this is an If-None-Match that can be understood."""
    return if_none_match.strip() == "*" or _TAGS.fullmatch(if_none_match) is not None


def has_tag(if_none_match: str, tag: str | None) -> bool:
    """Whether it names this tag; compared weakly. What is malformed there is not looked at, so that the
    caller just receives the content, and so he does where there is no tag."""
    if tag is None or not names_tags(if_none_match):
        return False
    named = {each.removeprefix("W/") for each in re.findall(_TAG, if_none_match)}
    return if_none_match.strip() == "*" or tag in named


def _tags(header: str, name: str) -> list[str]:
    if not _TAGS.fullmatch(header):
        raise ParseError(f'{name} is "<version>", such as "3".')
    return re.findall(_TAG, header)
