"""The operators' pages. Rows may be looked at, not edited: what changes a user or a webhook is the same
command as everywhere, dispatched in the operator's name, so that every rule holds here too."""

from users.admin import events, users, webhooks  # noqa: F401 - their pages register themselves
from users.admin.site import site

__all__ = ["site"]
