"""Blocking a user, and unblocking, as most such requests ask for it: how they are known, and how they are
carried out.

It decides nothing of its own. Who calls, what he may, what his body says and what becomes of it: that say the
parts which the view asks too. Nothing is carried out twice: whatever goes wrong here Django puts into words,
and does not try again (`Desk.carries_out`)."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings
from django.db import close_old_connections
from rest_framework.serializers import Serializer
from structlog.contextvars import bound_contextvars

from users.api.authentication import Caller, look_up, shown_token
from users.api.blank_forms import fill_in
from users.api.observation import transport_of
from users.api.parsers import parse_strictly
from users.api.plain_requests import (
    NOTHING,
    OK,
    Answered,
    Copied,
    Copies,
    Environ,
    admit,
    is_plain,
    take_in,
)
from users.api.user_commands import BLOCKING, command_fields

JSON = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})
"""How clients write it; in whatever other way they may, Django reads it."""
MOST_DIGITS = 9


class Command(NamedTuple):
    """What is to be done to whom, by which transport, and the body."""

    operation: str
    named: str
    transport: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What `user_commands` wants to know of a request."""

    content: bytes
    named: str
    caller: Caller
    if_match: str | None

    def body(self, form: type[Serializer[Any]]) -> dict[str, Any]:
        return fill_in(form, parse_strictly(self.content) if self.content else {})

    def command_fields(self) -> dict[str, Any]:
        return command_fields(self.named, self.caller, self.if_match)


class Commands:
    carries_out = True

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    def asked(self, environ: Environ) -> Command | None:
        match environ.get("PATH_INFO", "").split("/"):
            case ["", "users", named, operation] if named and operation in BLOCKING and is_plain(environ):
                content = _content(environ)
                if content is not None:
                    return Command(operation, named, transport_of(environ), content)
        return None

    def copying(self, environ: Environ, command: Command, start_response: Any) -> Any:
        if self._copied(command):
            return None
        return self._copies.copying(environ, command.transport, command.operation, (OK,), start_response)

    def answer(self, environ: Environ, command: Command, request_id: str) -> Answered | None:
        raw, copied = shown_token(environ["HTTP_AUTHORIZATION"]), self._copied(command)
        if raw is None or copied is None:
            return None
        close_old_connections()  # as Django does before each request
        with bound_contextvars(request_id=request_id):
            admitted = admit(environ, look_up(raw, command.named), command.operation, command.named)
            if admitted is None:
                return None
            caller = admitted.caller
            asked = Asked(command.content, command.named, caller, environ.get("HTTP_IF_MATCH"))
            view = BLOCKING[command.operation](asked)
            answer = copied.answer(view.version, view.json, environ=environ, caller_id=caller.id)
            return Answered(answer, admitted.standing)

    def _copied(self, command: Command) -> Copied | None:
        return self._copies.of(command.transport, command.operation, OK)


def _content(environ: Environ) -> bytes | None:
    """The body, which Django can still read; None for one that only Django understands."""
    length: str = environ.get("CONTENT_LENGTH") or ""
    if length in NOTHING:
        return b""
    is_number = len(length) <= MOST_DIGITS and length.isascii() and length.isdecimal()
    if environ.get("CONTENT_TYPE") not in JSON or not is_number or int(length) > settings.MAX_BODY_BYTES:
        return None
    content = take_in(environ)
    return content if len(content) <= settings.MAX_BODY_BYTES else None
