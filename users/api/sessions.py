"""The endpoints about sessions: logging in, staying logged in, logging out, and looking where one is."""

from typing import Any

from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from users import wiring
from users.api import serializers as forms
from users.api.client import client_of
from users.api.conditions import expected_versions
from users.api.devices import device_of
from users.api.pagination import page_response
from users.api.views import NO_STORE, Endpoint
from users.application.credentials import LogIn
from users.application.representation import timestamp
from users.application.session import Session
from users.application.sessions import Tokens


class TokenViewSet(Endpoint):
    """Whoever logs in or refreshes is nobody yet: an access token that he still carries, expired or not, is
    not looked at."""

    authentication_classes = ()

    def log_in(self, request: Request) -> Response:
        client = client_of(request)
        command = LogIn(**self.body(forms.LogInBody), address=client.address, user_agent=client.user_agent)
        return tokens_response(wiring.service().sessions.log_in(command))

    def refresh(self, request: Request) -> Response:
        return tokens_response(wiring.service().sessions.refresh(self.body(forms.RefreshBody)["refresh"]))

    def log_out(self, request: Request) -> Response:
        wiring.service().sessions.log_out(self.body(forms.RefreshBody)["refresh"])
        return Response(status=status.HTTP_204_NO_CONTENT, headers=NO_STORE)


class SessionViewSet(Endpoint):
    def log_out_everywhere(self, request: Request) -> Response:
        self.body(forms.NoBody)
        wiring.service().sessions.log_out_everywhere(
            self.caller.id, by=self.caller.actor, expected=expected_versions(request)
        )
        return Response(status=status.HTTP_204_NO_CONTENT, headers=NO_STORE)

    def list_sessions(self, request: Request, user_id: str) -> Response:
        self.query(forms.StrictQuery)
        sessions = wiring.service().sessions.of(self.target())
        return page_response(request, [_fields(session, self.caller.session_id) for session in sessions])

    def end_session(self, request: Request, user_id: str, session_id: str) -> Response:
        wiring.service().sessions.end(
            self.target(), session_id.lower(), by=self.caller.actor, expected=expected_versions(request)
        )
        return Response(status=status.HTTP_204_NO_CONTENT)


def tokens_response(tokens: Tokens) -> Response:
    return Response({"access": tokens.access, "refresh": tokens.refresh}, headers=NO_STORE)


def _fields(session: Session, current: str | None) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "device": device_of(session.user_agent),
        "address": session.address or None,
        "created_at": timestamp(session.created_at),
        "last_used_at": timestamp(session.last_used_at),
        "expires_at": timestamp(session.expires_at),
        "current": str(session.id) == current,
    }
