"""Tokens, and the sessions that they belong to."""

from collections.abc import Mapping

from users.api import serializers as forms
from users.api import shapes
from users.api.operations.operation import CONDITIONAL, Json, Operation

SESSION_ID = "0198c1a2-7c20-7b3c-8d11-0c5e1f2a3b4c"
TOKENS: Json = {
    "access": "eyJhbGciOiJSUzI1NiIsImtpZCI6Ii4uLiJ9.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl",
    "refresh": "eyJhbGciOiJIUzI1NiIsInR5cCI6InJlZnJlc2grand0In0.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl",
}
SESSION: Json = {
    "id": SESSION_ID,
    "device": "Firefox on Linux",
    "address": "192.0.2.0/24",
    "created_at": "2026-01-31T09:30:00.000000Z",
    "last_used_at": "2026-01-31T11:02:17.000000Z",
    "expires_at": "2026-03-02T09:30:00.000000Z",
    "current": True,
}

TOKEN_OPERATIONS: Mapping[str, Operation] = {
    "log_in": Operation(
        tag="tokens",
        summary="Log in",
        text="An unknown address and a wrong password are answered alike; that an account is blocked learns "
        "only who knows its password. The access token is for every request, and lives for minutes; the "
        "refresh token is for the next pair of them.",
        body=forms.LogInBody,
        body_example={"email": "ann@example.com", "password": "seven green umbrellas"},
        answer=shapes.TokenShape,
        answer_example=TOKENS,
        problems=("invalid_credentials", "user_blocked", "rate_limited"),
    ),
    "refresh": Operation(
        tag="tokens",
        summary="Go on with a session",
        text="A refresh token is used once: the answer brings its successor. For ten seconds more it leads "
        "to the same successor, for two tabs that ask at once, or an answer that got lost. Later it was "
        "copied by somebody, and its session ends.",
        body=forms.RefreshBody,
        body_example={"refresh": TOKENS["refresh"]},
        answer=shapes.TokenShape,
        answer_example=TOKENS,
        problems=("invalid_token", "rate_limited"),
    ),
    "log_out": Operation(
        tag="tokens",
        summary="Log out",
        text="Ends the session of the refresh token: all its tokens are refused from the next request on. "
        "That it has ended already is no error.",
        body=forms.RefreshBody,
        body_example={"refresh": TOKENS["refresh"]},
        status=204,
        problems=("invalid_token", "rate_limited"),
    ),
    "log_out_everywhere": Operation(
        tag="tokens",
        summary="Log out everywhere",
        text="Ends all your sessions: every token that you have is refused from the next request on.",
        body=forms.NoBody,
        body_example={},
        sends=("If-Match",),
        status=204,
        problems=CONDITIONAL,
    ),
    "list_sessions": Operation(
        tag="tokens",
        summary="List a user's sessions",
        about="user",
        text="Newest first: where the user is logged in now.",
        query=forms.StrictQuery,
        answer=shapes.SessionPageShape,
        answer_example={"results": [SESSION], "next": None},
    ),
    "end_session": Operation(
        tag="tokens",
        summary="End a session",
        about="user",
        text="Logs one device out: its tokens are refused from the next request on.",
        sends=("session_id", "If-Match"),
        status=204,
        problems=("session_not_found", *CONDITIONAL),
    ),
}
