"""Commands on one user, made of what a request says, whoever has taken it in: a viewset, or what stands in
front of Django."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rest_framework.serializers import Serializer

from users import wiring
from users.api import serializers as forms
from users.api.authentication import Caller, named_user
from users.api.conditions import versions_in
from users.application.commands import BlockUser, UnblockUser
from users.application.representation import UserView
from users_domain.errors import UserNotFound


class Asked(Protocol):
    """Of a request, what a command is made of."""

    def body(self, form: type[Serializer[Any]]) -> dict[str, Any]:
        """Raises ParseError, ValidationError."""
        ...

    def command_fields(self) -> dict[str, Any]:
        """As `command_fields` says."""
        ...


def target_of(named: str | None, caller: Caller) -> str:
    """The id that the address names. Raises UserNotFound when it is no id, for then it names nobody."""
    target = named_user(named, caller.id)
    if target is None:
        raise UserNotFound
    return target


def command_fields(named: str | None, caller: Caller, if_match: str | None) -> dict[str, Any]:
    """What every command on one user takes: whom, by whom, and which versions. Raises UserNotFound,
    ParseError, PreconditionRequired."""
    return {"user_id": target_of(named, caller), "by": caller.actor, "expected": versions_in(if_match)}


def block(asked: Asked) -> UserView:
    command = BlockUser(**asked.body(forms.BlockBody), **asked.command_fields())
    return wiring.service().commands.block(command)


def unblock(asked: Asked) -> UserView:
    asked.body(forms.NoBody)
    return wiring.service().commands.unblock(UnblockUser(**asked.command_fields()))


BLOCKING: Mapping[str, Callable[[Asked], UserView]] = {"block": block, "unblock": unblock}
"""By operation."""
