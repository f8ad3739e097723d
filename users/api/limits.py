"""Which operations are held to which limits, as data, and the headers that tell a caller where he stands
(draft-ietf-httpapi-ratelimit-headers). Logging in is counted in `Sessions.authenticate`, for the admin pages
too; refreshing in `Sessions.refresh`, where the session is known; every request with a token by
`TokenAuthentication`."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from django.conf import settings
from rest_framework.request import Request

from users import wiring
from users.api.authentication import Caller, named_user
from users.api.client import client_of
from users.application.addresses import network_of
from users.application.limits import Standing
from users_domain.errors import InvalidEmail
from users_domain.value_objects import Email

Key = Callable[[Request], str | None]
"""What is counted under; None for a request that the limit is not about."""


def by_address(request: Request) -> str:
    return network_of(client_of(request).address)


def by_address_of_strangers(request: Request) -> str | None:
    """Staff and services register many, in others' names; the limit of every caller holds them."""
    caller = cast(Caller | None, request.user)
    return None if caller and caller.roles else by_address(request)


def by_email(request: Request) -> str | None:
    """The form says what is wrong with an address that is none."""
    try:
        return str(Email(_field(request, "email") or ""))
    except InvalidEmail:
        return None


def by_email_of_the_quiet(request: Request) -> str | None:
    """Whoever registers a taken address quietly sends its owner a mail."""
    return by_email(request) if registers_quietly(request) else None


def registers_quietly(request: Request) -> bool:
    """Whether the caller is not to learn who is registered; staff and services are told."""
    caller = cast(Caller | None, request.user)
    return settings.REGISTRATION_DISCLOSURE == "accepted" and not (caller and caller.roles)


def by_email_to_be_proven(request: Request) -> str | None:
    """Whoever wants an address as his own sends a mail there. What an admin gives to others is no wish."""
    caller = cast(Caller | None, request.user)
    himself = caller and named_user(_named(request), caller.id) == caller.id
    return by_email(request) if settings.EMAIL_CHANGE == "verified" and himself else None


def by_caller(request: Request) -> str | None:
    return str(request.user.id) if request.user else None


def by_proof(request: Request) -> str | None:
    """Whoever shows his password once more, and so could be guessing it with a stolen token."""
    shown = _field(request, "password") or _field(request, "current_password")
    return str(request.user.id) if shown and request.user else None


LIMITS: Mapping[str, Mapping[str, Key]] = {
    "register": {"registration": by_address_of_strangers, "registration_email": by_email_of_the_quiet},
    "request_password_reset": {"reset": by_email, "reset_address": by_address},
    "request_email_verification": {"verification": by_email, "verification_address": by_address},
    "change_email": {"password_proof": by_proof, "email_change": by_email_to_be_proven},
    "change_password": {"password_proof": by_proof},
    "export": {"export": by_caller},
}
"""By operation, the policies and what each counts by."""
OF_SOMEBODY = frozenset({"reset", "verification", "registration_email", "email_change"})
"""Policies that count for an email address, whoever asks; where it stands is no business of the caller."""
LIMITED_WITHIN = frozenset({"log_in", "refresh", "log_out"})
"""Operations that the application itself counts."""


def hold(request: Request, operation: str) -> None:
    """Raises RateLimited; what is no JSON is refused here, as the form would."""
    keys = {policy: key(request) for policy, key in LIMITS.get(operation, {}).items()}
    wiring.service().limits.hold(**{policy: key for policy, key in keys.items() if key is not None})


def limit_headers(standings: Iterable[Standing]) -> dict[str, str]:
    """Of all limits that were counted under, in one line each; none where there were none."""
    counted = list(standings)
    known = [one for one in counted if one.policy.name not in OF_SOMEBODY]
    known = known or [one for one in counted if not one.remaining]
    if not known:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{one.policy.name}";q={one.policy.quota};w={one.policy.seconds}' for one in known
        ),
        "RateLimit": ", ".join(
            f'"{one.policy.name}";r={one.remaining};t={math.ceil(one.reset)}' for one in known
        ),
    }


def _named(request: Request) -> str | None:
    named: str | None = request.parser_context["kwargs"].get("user_id")
    return named


def _field(request: Request, name: str) -> str | None:
    value = request.data.get(name) if isinstance(request.data, Mapping) else None
    return value if isinstance(value, str) else None
