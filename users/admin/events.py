"""The outbox, to look at: what happened, to whom, by whom."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from users.admin.display import NOT_SET, as_uuid, moment, named_actors, readable, user_link
from users.admin.site import ReadOnlyAdmin, site
from users.models import OutboxEvent


@admin.register(OutboxEvent, site=site)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("time", "event_type", "user_link", "user_version", "actor_id", "sequence")
    list_display_links = ("time",)
    ordering = ("-id",)
    search_fields = ("user_id",)
    search_help_text = "A whole user id or event id."
    fields = (
        "time",
        "event_type",
        "event_id",
        "user_link",
        "user_version",
        "actor_id",
        "request_id",
        "data",
        "sequence",
    )

    @admin.display(description="Time")
    def time(self, event: OutboxEvent) -> str:
        return moment(event.occurred_at)

    @admin.display(description="User")
    def user_link(self, event: OutboxEvent) -> SafeString:
        return user_link(event.user_id)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OutboxEvent], search_term: str
    ) -> tuple[QuerySet[OutboxEvent], bool]:
        if not search_term.strip():
            return queryset, False
        wanted = as_uuid(search_term.strip())
        if wanted is None:
            return queryset.none(), False
        return queryset.filter(Q(user_id=wanted) | Q(event_id=wanted)), False


def recent_events(user_id: UUID, limit: int = 100) -> dict[str, Any]:
    """What happened to the user, newest first, and where to read on."""
    found = list(OutboxEvent.objects.filter(user_id=user_id).order_by("-user_version")[: limit + 1])
    events = found[:limit]
    names = named_actors(event.actor_id for event in events)
    return {
        "rows": [
            {
                "time": moment(event.occurred_at),
                "type": event.event_type,
                "version": event.user_version,
                "actor": names[event.actor_id],
                "request_id": event.request_id or NOT_SET,
                "data": readable(event),
            }
            for event in events
        ],
        "more": f"{reverse('admin:users_outboxevent_changelist')}?{urlencode({SEARCH_VAR: str(user_id)})}"
        if len(found) > limit
        else None,
    }
