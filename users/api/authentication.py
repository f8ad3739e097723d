"""Who calls: a bearer token, checked against its signature, its claims and the account's token version."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication

from users import wiring
from users.application.ports import CacheAnswer
from users.application.representation import UserView, canonical
from users.infrastructure.rate_limits import Turn
from users.infrastructure.tokens import Bearer
from users_domain.errors import InvalidUserId, UserNotFound
from users_domain.value_objects import Actor, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated user, as the views see him. `seen` are users that the check brought along from the
    cache: the caller and whom his request is about, so that a cached read takes one round trip."""

    id: str
    roles: frozenset[Role]
    seen: dict[str, CacheAnswer]
    session_id: str | None = None
    is_authenticated = True
    is_active = True

    @property
    def actor(self) -> Actor:
        return Actor(self.id, self.roles)

    def __str__(self) -> str:
        return self.id


class Shown(NamedTuple):
    """The token `raw`, whom it names, and of those whom the request is about who is in the cache, and who is
    missed there and may be filled; a limit, if there is one, has counted it. Nothing is judged yet."""

    raw: bytes
    bearer: Bearer
    turn: Turn | None
    cached: dict[str, UserView]
    missed: dict[str, CacheAnswer]


@dataclass(frozen=True, slots=True)
class Recognised:
    """Whoever has shown the token `raw`, which counts; his limit, if there is one, has counted it."""

    raw: bytes
    bearer: Bearer
    caller: Caller
    turn: Turn | None

    def enforce_limit(self) -> None:
        """Raises RateLimited."""
        if self.turn:
            self.turn.enforce()


RECOGNISED = "users.recognised"
"""In the environment of a request whose token was looked at in front of Django; no header puts it there."""
MET = "users.met"
"""There too, the error that was met behind that: raised where Django's handlers put it into words, instead of
being looked for anew."""


MayRead = Callable[[frozenset[Role], bool], bool]
"""Whether somebody with these roles may read another user, or himself."""


def look_up(raw: bytes, named: str | None, *, may_read: MayRead | None = None) -> Shown:
    """What there is to know without PostgreSQL of a request that shows this token, about the user that its
    address names. With `may_read` it is a read of him, and whoever may and misses him is to fill the cache.
    Raises simplejwt's TokenError, AuthenticationFailed."""
    service = wiring.service()
    try:
        bearer = service.tokens.bearer(raw)
    except (InvalidUserId, ArithmeticError, OSError, TypeError, ValueError):
        raise AuthenticationFailed from None  # signed with our key, yet not a token that we make
    caller_id = bearer.user_id
    target = named_user(named, caller_id)
    # By version, and given back where the session has ended: a token that is worth nothing any more uses up
    # nothing of its owner's.
    turn = service.callers.turn(f"{caller_id} {bearer.token_version}")
    about = [caller_id] if target is None or target == caller_id else [caller_id, target]
    # Who may not read him shall not keep others from filling either.
    if target is None or may_read is None or not may_read(bearer.roles, target == caller_id):
        return Shown(raw, bearer, turn, service.cache.peek(about, along=turn), {})
    about.remove(target)
    cached, answer = service.cache.peek_and_get(about, target, along=turn)
    if answer.view:
        return Shown(raw, bearer, turn, cached | {target: answer.view}, {})
    return Shown(raw, bearer, turn, cached, {target: answer})


def give_up(shown: Shown) -> None:
    """Whoever was to fill the cache, and was refused, leaves it to others."""
    for user_id, answer in shown.missed.items():
        if answer.lease:
            wiring.service().cache.release(user_id, answer.lease)


def recognise(shown: Shown) -> Recognised:
    """Who calls. Raises AuthenticationFailed; the database's errors where the cache does not know him."""
    bearer = shown.bearer
    seen = {user_id: CacheAnswer("hit", view=view) for user_id, view in shown.cached.items()} | shown.missed
    try:
        account, seen[bearer.user_id] = wiring.service().queries.account(
            bearer.user_id, seen=seen.get(bearer.user_id)
        )
    except UserNotFound:
        raise AuthenticationFailed from None
    if not account.accepts(bearer.token_version, bearer.session_id):
        if shown.turn:
            shown.turn.give_back()
        raise AuthenticationFailed
    caller = Caller(bearer.user_id, bearer.roles, seen, bearer.session_id)
    return Recognised(shown.raw, bearer, caller, shown.turn)


class TokenAuthentication(JWTAuthentication):
    def __init__(self) -> None:
        """Unlike simplejwt's, without a user model: the token and the cache say all there is to know."""

    def authenticate(self, request: Request) -> tuple[Caller, Bearer] | None:  # type: ignore[override]
        """Raises simplejwt's TokenError, AuthenticationFailed, RateLimited; None without a bearer token."""
        raw = shown_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if raw is None:
            return None
        recognised: Recognised | None = request.META.get(RECOGNISED)
        if recognised is None and MET in request.META:
            raise request.META[MET]
        if recognised is None or recognised.raw != raw:
            recognised = recognise(look_up(raw, request.parser_context["kwargs"].get("user_id")))
        request._request.caller_id = recognised.caller.id  # type: ignore[attr-defined]
        recognised.enforce_limit()
        return recognised.caller, recognised.bearer


def shown_token(header: str) -> bytes | None:
    """What stands in Authorization; None for another scheme. Raises AuthenticationFailed for what can be no
    token."""
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    if not token.strip() or " " in token.strip() or not token.isascii():
        raise AuthenticationFailed
    return token.strip().encode()


def named_user(named: str | None, caller_id: str) -> str | None:
    """The id of the user whom an address names, where `me` is the caller; None when it names nobody, or
    something that is no id."""
    if named is None:
        return None
    try:
        return caller_id if named == "me" else canonical(named)
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
