"""The operators' pages. Everything may be looked at, nothing edited: what changes a user is the same command
as everywhere, dispatched in the operator's name, so that every rule holds here too."""

from users.admin import events, users  # noqa: F401 - their pages register themselves
from users.admin.site import site

__all__ = ["site"]
