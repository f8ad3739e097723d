"""Tokens."""

from collections.abc import Mapping

from users.api import serializers as forms
from users.api import shapes
from users.api.operations.operation import Operation

TOKEN_OPERATIONS: Mapping[str, Operation] = {
    "log_in": Operation(
        tag="tokens",
        summary="Log in",
        text="An unknown address and a wrong password are answered alike; that an account is blocked learns "
        "only who knows its password.",
        body=forms.LogInBody,
        body_example={"email": "ann@example.com", "password": "seven green umbrellas"},
        answer=shapes.TokenShape,
        answer_example={"access": "eyJhbGciOiJFUzI1NiIsImtpZCI6Ii4uLiJ9.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl"},
        problems=("invalid_credentials", "user_blocked"),
    ),
}
