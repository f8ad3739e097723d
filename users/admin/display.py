"""How values look on the pages."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from users.models import UserRecord

NOT_SET = "–"


def moment(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if value else NOT_SET


def readable(envelope: dict[str, Any]) -> list[tuple[str, str]]:
    """The event's own fields for people, without what stands beside them: whose it is and when it was."""
    beside = {envelope["user_id"], envelope["timestamp"]}
    return [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in envelope["data"].items()
        if str(value) not in beside
    ]


def named_actors(actor_ids: Iterable[str | None]) -> dict[str | None, str]:
    """How to call those who acted: users by their address, `system` and `cli` as they are. One statement."""
    wanted = set(actor_ids)
    ids = [user_id for actor_id in wanted if (user_id := as_uuid(actor_id or ""))]
    users = UserRecord.objects.filter(id__in=ids).values_list("id", "email") if ids else []
    names: dict[str | None, str] = {str(user_id): user_link(user_id, email) for user_id, email in users}
    return {actor_id: names.get(actor_id, actor_id or NOT_SET) for actor_id in wanted}


def user_link(user_id: UUID, label: str | None = None) -> SafeString:
    address = reverse("admin:users_userrecord_change", args=[user_id])
    return format_html('<a href="{}">{}</a>', address, label or user_id)


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
