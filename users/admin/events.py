"""The outbox, to look at: what happened, to whom, by whom."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Func, Q, QuerySet, TextField
from django.db.models.functions import Cast, Left
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from users.admin.display import NOT_SET, as_uuid, moment, named_actors, readable, user_link
from users.admin.site import ReadOnlyAdmin, site
from users.infrastructure import envelopes
from users.models import OutboxEvent

SHOWN_CHARACTERS = 10_000


class SetAsideFilter(admin.SimpleListFilter):
    title = "set aside"
    parameter_name = "set_aside"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[OutboxEvent]) -> QuerySet[OutboxEvent]:
        if self.value() not in {"yes", "no"}:
            return queryset
        return queryset.filter(set_aside_at__isnull=self.value() == "no")


@admin.register(OutboxEvent, site=site)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("time", "event_type", "user_link", "user_version", "actor_id", "sequence", "set_aside")
    list_display_links = ("time",)
    ordering = ("-id",)
    list_filter = (SetAsideFilter,)
    parameters = frozenset({"set_aside"})
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
        "content",
        "sequence",
        "set_aside",
        "set_aside_since",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxEvent]:
        """As text, and without the data: an event that cannot be told must not hide all others."""
        as_text = Func(
            "occurred_at",
            template="(%(expressions)s AT TIME ZONE 'UTC')::text",
            output_field=TextField(),
        )
        events: QuerySet[OutboxEvent] = super().get_queryset(request)
        return events.defer("occurred_at", "data").annotate(occurred=as_text)

    @admin.display(description="Time")
    def time(self, event: OutboxEvent) -> str:
        return f"{event.occurred.partition('.')[0]} UTC"  # type: ignore[attr-defined]

    @admin.display(description="Data")
    def content(self, event: OutboxEvent) -> str:
        text = Left(Cast("data", TextField()), SHOWN_CHARACTERS)
        return str(OutboxEvent.objects.values_list(text, flat=True).get(pk=event.pk))

    @admin.display(description="Set aside")
    def set_aside(self, event: OutboxEvent) -> str:
        return (event.set_aside_because or "yes") if event.set_aside_at else NOT_SET

    @admin.display(description="Set aside since")
    def set_aside_since(self, event: OutboxEvent) -> str:
        return moment(event.set_aside_at)

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
    found = envelopes.read(OutboxEvent.objects.filter(user_id=user_id).order_by("-user_version"), limit + 1)
    events = found[:limit]
    names = named_actors(event["actor_id"] for event in events)
    return {
        "rows": [
            {
                "time": moment(datetime.fromisoformat(event["timestamp"])),
                "type": event["event_type"],
                "version": event["user_version"],
                "actor": names[event["actor_id"]],
                "request_id": event["request_id"] or NOT_SET,
                "data": readable(event),
            }
            for event in events
        ],
        "more": f"{reverse('admin:users_outboxevent_changelist')}?{urlencode({SEARCH_VAR: str(user_id)})}"
        if len(found) > limit
        else None,
    }
