"""Who calls: a bearer token, checked against its signature, its claims and the account's token version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from users import wiring
from users.application.representation import UserView
from users_domain.errors import InvalidUserId, UserNotFound
from users_domain.value_objects import Actor, Role, UserId


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated user, as the views see him. `seen` are users that the check brought along from the
    cache: the caller and whom his request is about, so that a cached read takes one round trip."""

    id: str
    roles: frozenset[Role]
    seen: dict[str, UserView]
    session_id: str | None = None
    is_authenticated = True
    is_active = True

    @property
    def actor(self) -> Actor:
        return Actor(self.id, self.roles)

    def __str__(self) -> str:
        return self.id


class TokenAuthentication(JWTAuthentication):
    def __init__(self) -> None:
        """Unlike simplejwt's, without a user model: the token and the cache say all there is to know."""

    def authenticate(self, request: Request) -> tuple[Caller, dict[str, Any]] | None:  # type: ignore[override]
        """Raises simplejwt's TokenError, AuthenticationFailed, RateLimited; None without a bearer token."""
        raw = _bearer(request.META.get("HTTP_AUTHORIZATION", ""))
        if raw is None:
            return None
        service = wiring.service()
        try:
            claims = service.tokens.read(raw)
            caller_id, roles = str(UserId.parse(claims["sub"])), frozenset(map(Role, claims["roles"]))
        except (InvalidUserId, ArithmeticError, OSError, TypeError, ValueError):
            raise AuthenticationFailed from None  # signed with our key, yet not a token that we make
        target = named_user(request.parser_context["kwargs"], caller_id)
        # By version, and given back where the session has ended: a token that is worth nothing any more uses
        # up nothing of its owner's.
        turn = service.callers.turn(f"{caller_id} {claims['tv']}")
        named = [caller_id] if target in {None, caller_id} else [caller_id, target]
        seen = service.cache.peek(named, along=turn)
        try:
            account = service.queries.account(caller_id, seen=seen.get(caller_id))
        except UserNotFound:
            raise AuthenticationFailed from None
        if not account.accepts(claims["tv"], claims["sid"]):
            if turn:
                turn.give_back()
            raise AuthenticationFailed
        request._request.caller_id = caller_id  # type: ignore[attr-defined]
        if turn:
            turn.enforce()
        return Caller(caller_id, roles, seen, str(claims["sid"])), claims


def _bearer(header: str) -> bytes | None:
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    if not token.strip() or " " in token.strip() or not token.isascii():
        raise AuthenticationFailed
    return token.strip().encode()


def named_user(address: Mapping[str, Any], caller_id: str) -> str | None:
    """The id that the address (a view's keyword arguments) names, where `me` is the caller; None when it
    names nobody, or something that is no id."""
    named = address.get("user_id")
    if named is None:
        return None
    try:
        return caller_id if named == "me" else str(UserId.parse(named))
    except InvalidUserId:
        return None


class AdminSessionAuthentication(SessionAuthentication):
    """In development, so that whoever has logged in to the admin pages can use the browsable API."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        self.enforce_csrf(request)
        request._request.caller_id = str(user.id)  # type: ignore[attr-defined]
        return Caller(str(user.id), frozenset(Role(role) for role in user.roles), {}), None
