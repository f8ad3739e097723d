"""Every operation in words, for the OpenAPI document: keyed by the view's action, as the permissions are.

What follows from the address, the permission matrix and the forms is not repeated here; `users.api.schema`
adds it."""

from collections.abc import Mapping

from users.api.operations.accounts import ACCOUNT_OPERATIONS
from users.api.operations.events import EVENT_OPERATIONS
from users.api.operations.operation import Json, Operation, Page
from users.api.operations.pages import PAGES
from users.api.operations.tokens import SESSION_ID, TOKEN_OPERATIONS
from users.api.operations.users import USER_ID, USER_OPERATIONS
from users.api.operations.webhooks import WEBHOOK_ID, WEBHOOK_OPERATIONS

OPERATIONS: Mapping[str, Operation] = {
    **USER_OPERATIONS,
    **EVENT_OPERATIONS,
    **WEBHOOK_OPERATIONS,
    **TOKEN_OPERATIONS,
    **ACCOUNT_OPERATIONS,
}

__all__ = ["OPERATIONS", "PAGES", "SESSION_ID", "USER_ID", "WEBHOOK_ID", "Json", "Operation", "Page"]
