"""Refusals that are not about a user but about the call.

::

    ApplicationError
     ├── InvalidCredentials
     ├── IdempotencyKeyReused
     ├── InvalidQuery           a filter, limit or cursor that cannot be understood
     └── Unavailable            try again later
"""

from typing import ClassVar


class ApplicationError(Exception):
    """`code` is stable and public; the message is for people and names no secret."""

    code: ClassVar[str]
    message: ClassVar[str]

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.message)


class InvalidCredentials(ApplicationError):
    code = "invalid_credentials"
    message = "No account with this email address and password."


class IdempotencyKeyReused(ApplicationError):
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used for another request."


class InvalidQuery(ApplicationError):
    code = "invalid_request"
    message = "The query cannot be understood."

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Unavailable(ApplicationError):
    """`retry_after`: seconds after which a new try makes sense."""

    code = "unavailable"
    message = "The service cannot do this right now; try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
