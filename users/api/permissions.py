"""Who may call what, as data. What depends on the user that is acted upon, the aggregate decides."""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from django.conf import settings
from rest_framework.exceptions import NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from users.api.authentication import Caller, named_user
from users_domain.errors import UserNotFound
from users_domain.value_objects import Role


class Relation(StrEnum):
    """What the caller is to the user that the address names, or to himself where it names none: anybody, the
    user himself, or by his role."""

    ANYONE = "anyone"
    SELF = "self"
    OPERATOR = "operator"
    ADMIN = "admin"
    SERVICE = "service"


R = Relation

MATRIX: Mapping[str, frozenset[Relation]] = {
    "register": frozenset({R.ANYONE}),
    "register_closed": frozenset({R.OPERATOR, R.ADMIN, R.SERVICE}),
    "list": frozenset({R.OPERATOR, R.ADMIN, R.SERVICE}),
    "retrieve": frozenset({R.SELF, R.OPERATOR, R.ADMIN, R.SERVICE}),
    "rename": frozenset({R.SELF, R.OPERATOR, R.ADMIN}),
    "change_email": frozenset({R.SELF, R.ADMIN}),
    "change_password": frozenset({R.SELF}),
    "change_roles": frozenset({R.ADMIN}),
    "block": frozenset({R.OPERATOR, R.ADMIN}),
    "unblock": frozenset({R.OPERATOR, R.ADMIN}),
    "history": frozenset({R.SELF, R.OPERATOR, R.ADMIN, R.SERVICE}),
    "erase": frozenset({R.SELF, R.ADMIN}),
    "export": frozenset({R.SELF, R.ADMIN}),
    "feed": frozenset({R.ADMIN, R.SERVICE}),
    "create_webhook": frozenset({R.ADMIN}),
    "list_webhooks": frozenset({R.ADMIN}),
    "retrieve_webhook": frozenset({R.ADMIN}),
    "change_webhook": frozenset({R.ADMIN}),
    "delete_webhook": frozenset({R.ADMIN}),
    "rotate_webhook_secret": frozenset({R.ADMIN}),
    "resume_webhook": frozenset({R.ADMIN}),
    "ping_webhook": frozenset({R.ADMIN}),
    "redeliver_events": frozenset({R.ADMIN}),
    "list_deliveries": frozenset({R.ADMIN}),
    "list_sessions": frozenset({R.SELF, R.ADMIN}),
    "end_session": frozenset({R.SELF, R.ADMIN}),
    "log_in": frozenset({R.ANYONE}),
    "refresh": frozenset({R.ANYONE}),
    "log_out": frozenset({R.ANYONE}),
    "log_out_everywhere": frozenset({R.SELF}),
    "request_password_reset": frozenset({R.ANYONE}),
    "reset_password": frozenset({R.ANYONE}),
    "request_email_verification": frozenset({R.ANYONE}),
    "verify_email": frozenset({R.ANYONE}),
    "confirm_email_change": frozenset({R.ANYONE}),
    "cancel_email_change": frozenset({R.ANYONE}),
}
"""By operation: the name of the view's action."""


class MayCall(BasePermission):
    """To whom somebody else's account is closed, it does not exist, whether it does or not. What the caller
    may not do with his own account, or with all of them, is forbidden."""

    def has_permission(self, request: Request, view: Any) -> bool:
        operation = view.action
        if operation == "register" and settings.REGISTRATION == "closed":
            operation = "register_closed"
        if operation in {None, "metadata"}:
            return True  # no operation: 405 follows
        allowed = MATRIX.get(operation, frozenset())
        if Relation.ANYONE in allowed:
            return True
        caller = cast(Caller | None, request.user)
        if caller is None:
            raise NotAuthenticated
        require(operation, caller, view.kwargs.get("user_id"))
        return True


def require(operation: str, caller: Caller, named: str | None) -> None:
    """That the caller may do so to the user whom the address names, None where it names nobody. Raises
    UserNotFound, PermissionDenied."""
    is_self = named is None or named_user(named, caller.id) == caller.id
    if is_allowed(operation, caller.roles, is_self):
        return
    if is_self:
        raise PermissionDenied
    raise UserNotFound


@lru_cache
def is_allowed(operation: str, roles: frozenset[Role], is_self: bool) -> bool:
    """Whether somebody with these roles may do so, to himself or to others."""
    relations = {Relation(role) for role in roles} | ({R.SELF} if is_self else set())
    return bool(MATRIX.get(operation, frozenset()) & relations)
