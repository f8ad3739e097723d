"""The endpoints: check the form, dispatch one command or query, answer."""

import hashlib
import hmac
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import status
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.viewsets import GenericViewSet

from users import wiring
from users.api import serializers as forms
from users.api import user_commands
from users.api.authentication import MET, Caller
from users.api.blank_forms import fill_in
from users.api.conditions import etag, is_known
from users.api.languages import language_of
from users.api.limits import hold, limit_headers, registers_quietly
from users.api.pagination import page_response
from users.application.commands import (
    ChangeEmail,
    ChangePassword,
    ChangeRoles,
    RegisterUser,
    RenameUser,
)
from users.application.limits import noted_standings
from users.application.ports import EmailProposal, UserCriteria
from users.application.privacy import Erased, EraseUser
from users.application.representation import UserView, timestamp
from users_domain.value_objects import UserStatus

NO_STORE = {"Cache-Control": "no-store"}
"""For answers that hold a secret, or are about one."""


class Endpoint(GenericViewSet):  # type: ignore[type-arg]
    """What all viewsets share: reading forms, and who is meant."""

    http_method_names = ["get", "head", "post", "put", "patch", "delete"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with noted_standings() as standings:
            response = super().dispatch(request, *args, **kwargs)
        for name, value in limit_headers(standings.values()).items():
            response[name] = value
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        request._request.operation = self.action  # type: ignore[attr-defined]
        super().initial(request, *args, **kwargs)
        if MET in request.META:
            raise request.META[MET]
        hold(request, self.action)

    def body(self, form: type[Serializer[Any]]) -> dict[str, Any]:
        return fill_in(form, self.request.data)

    def query(self, form: type[forms.StrictQuery]) -> dict[str, Any]:
        return fill_in(form, self.request.query_params)

    @property
    def caller(self) -> Caller:
        return cast(Caller, self.request.user)

    def target(self) -> str:
        return user_commands.target_of(self.kwargs.get("user_id"), self.caller)

    def command_fields(self) -> dict[str, Any]:
        if_match = self.request.META.get("HTTP_IF_MATCH")
        return user_commands.command_fields(self.kwargs.get("user_id"), self.caller, if_match)


class UserViewSet(Endpoint):
    lookup_field = "user_id"

    def register(self, request: Request) -> Response:
        fields = self.body(forms.RegisterBody)
        actor = self.caller.actor if request.user else None
        key = _idempotency_key(request)
        quiet = registers_quietly(request)
        command = RegisterUser(
            **({"locale": language_of(request)} | fields),
            by=actor,
            scope=actor.id if actor else "anonymous",
            idempotency_key=key,
            fingerprint=_fingerprint(fields | {"quiet": quiet}) if key else "",
        )
        if quiet:
            # Draining the event of a new user would take longer than all that a taken address costs.
            wiring.service().unattended.register_quietly(command)
            return Response({}, status.HTTP_202_ACCEPTED, headers=NO_STORE)
        view = wiring.service().commands.register(command)
        response = user_response(view, status.HTTP_201_CREATED)
        response["Location"] = reverse("user", kwargs={"user_id": view.id})
        return response

    def list(self, request: Request) -> Response:
        query = self.query(forms.ListQuery)
        limit, cursor = query.pop("limit"), query.pop("cursor", None)
        criteria = UserCriteria(text=query.pop("q", None), **query)
        page = wiring.service().queries.list(criteria, limit=limit, cursor=cursor)
        return page_response(request, page.results, cursor=page.cursor)

    def retrieve(self, request: Request, user_id: str) -> Response:
        min_version = self.query(forms.UserQuery)["min_version"]
        target = self.target()
        view = wiring.service().queries.get(
            target, min_version=min_version, seen=self.caller.seen.get(target)
        )
        if is_known(request, view.version):
            return Response(status=status.HTTP_304_NOT_MODIFIED, headers=_user_headers(view))
        return user_response(view)

    def rename(self, request: Request, user_id: str) -> Response:
        command = RenameUser(**self.body(forms.RenameBody), **self.command_fields())
        return user_response(wiring.service().commands.rename(command))

    def change_email(self, request: Request, user_id: str) -> Response:
        command = ChangeEmail(**self.body(forms.ChangeEmailBody), **self.command_fields())
        changed = wiring.service().commands.change_email(command)
        return _proposed(changed) if isinstance(changed, EmailProposal) else user_response(changed)

    def change_password(self, request: Request, user_id: str) -> Response:
        command = ChangePassword(**self.body(forms.ChangePasswordBody), **self.command_fields())
        view = wiring.service().commands.change_password(command)
        return Response(status=status.HTTP_204_NO_CONTENT, headers=_user_headers(view))

    def change_roles(self, request: Request, user_id: str) -> Response:
        roles = tuple(self.body(forms.ChangeRolesBody)["roles"])
        command = ChangeRoles(roles=roles, **self.command_fields())
        return user_response(wiring.service().commands.change_roles(command))

    def block(self, request: Request, user_id: str) -> Response:
        return user_response(user_commands.block(self))

    def unblock(self, request: Request, user_id: str) -> Response:
        return user_response(user_commands.unblock(self))

    def history(self, request: Request, user_id: str) -> Response:
        query = self.query(forms.PageQuery)
        page = wiring.service().queries.history(
            self.target(), limit=query["limit"], cursor=query.get("cursor")
        )
        return page_response(request, page.results, cursor=page.cursor)

    def erase(self, request: Request, user_id: str) -> Response:
        self.body(forms.NoBody)
        erased = wiring.service().privacy.erase(EraseUser(**self.command_fields()))
        return Response(erasure_fields(erased), headers={"ETag": etag(erased.version)} | NO_STORE)

    def export(self, request: Request, user_id: str) -> StreamingHttpResponse:
        target = self.target()
        return StreamingHttpResponse(
            wiring.service().privacy.export(target),
            content_type="application/json",
            headers={
                "Content-Disposition": f'attachment; filename="user-{target}.json"',
            }
            | NO_STORE,
        )


def user_response(view: UserView, code: int = status.HTTP_200_OK) -> Response:
    return Response(view.json, status=code, headers=_user_headers(view))


def _proposed(proposal: EmailProposal) -> Response:
    """Not changed yet, and so without a version."""
    fields = {"email": proposal.email, "expires_at": timestamp(proposal.expires_at)}
    return Response(fields, status=status.HTTP_202_ACCEPTED, headers=NO_STORE)


def erasure_fields(erased: Erased) -> dict[str, Any]:
    return {
        "id": erased.id,
        "status": UserStatus.ERASED.value,
        "erased_at": timestamp(erased.erased_at),
        "version": erased.version,
        "event_id": str(erased.event_id),
        "receipt": erased.receipt,
    }


def _user_headers(view: UserView) -> dict[str, str]:
    """May be kept by the caller himself, who asks every time whether it still holds."""
    return {"ETag": etag(view.version), "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def _idempotency_key(request: Request) -> str | None:
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise ParseError("An Idempotency-Key has 1 to 255 printable ASCII characters.")
    return key


def _fingerprint(fields: dict[str, Any]) -> str:
    """Tells requests apart without keeping what is in them: keyed, for there is a password among it."""
    content = "\x00".join(f"{name}={fields[name]}" for name in sorted(fields))
    return hmac.new(settings.SECRET_KEY.encode(), content.encode(), hashlib.sha256).hexdigest()
