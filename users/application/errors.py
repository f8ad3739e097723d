"""Refusals that are not about a user: of the call, the feed, or a webhook.

::

    ApplicationError
     ├── InvalidCredentials
     ├── IdempotencyKeyReused
     ├── InvalidQuery           a filter, limit or cursor that cannot be understood
     ├── EventsGone             the feed does not reach back that far any more
     ├── EventNotFound
     ├── InvalidWebhook         an endpoint's address, event types or description
     ├── WebhookNotFound
     ├── InvalidLink            what came by mail proves nothing, or not any more
     ├── Forbidden              not by this caller
     ├── InvalidToken           a refresh token that is none of ours, or is worth nothing any more
     ├── SessionNotFound
     ├── RateLimited            too often; not yet again
     └── Unavailable            try again later
"""

import math
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


class EventsGone(ApplicationError):
    """`oldest` is the first sequence that is still there."""

    code = "events_gone"
    message = "Events behind this sequence are no longer kept."

    def __init__(self, oldest: int) -> None:
        super().__init__(
            f"Events behind this sequence are no longer kept; the oldest is {oldest}. Read the users anew "
            "(GET /users), then go on from there."
        )
        self.oldest = oldest


class EventNotFound(ApplicationError):
    code = "event_not_found"
    message = "There is no such event, or it is no longer kept."


class InvalidWebhook(ApplicationError):
    """`reason` is a stable word for what is wrong with `field`."""

    code = "invalid_request"
    message = "This is no valid webhook."

    def __init__(self, field: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.reason = reason


class WebhookNotFound(ApplicationError):
    code = "webhook_not_found"
    message = "There is no such webhook."


class InvalidLink(ApplicationError):
    """One refusal for all: what we never wrote, what has run out, what was used, and what the account has
    outlived."""

    code = "invalid_request"
    message = "This link is not valid, or not any more; ask for a new one."
    field = "token"
    reason = "invalid_link"


class Forbidden(ApplicationError):
    code = "forbidden"
    message = "This is for admins."


class InvalidToken(ApplicationError):
    code = "invalid_token"
    message = "This token is not valid, or not any more; log in again."


class SessionNotFound(ApplicationError):
    code = "session_not_found"
    message = "There is no such session, or it has ended."


class RateLimited(ApplicationError):
    """`retry_after`: whole seconds after which the same is let through; `policy`: which limit it was."""

    code = "rate_limited"
    message = "That was too often; come back later."

    def __init__(self, retry_after: float, *, policy: str = "") -> None:
        super().__init__()
        self.retry_after = max(1, math.ceil(retry_after))
        self.policy = policy


class Unavailable(ApplicationError):
    """`retry_after`: seconds after which a new try makes sense."""

    code = "unavailable"
    message = "The service cannot do this right now; try again shortly."

    def __init__(self, message: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
