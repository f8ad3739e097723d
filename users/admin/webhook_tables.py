"""Webhooks and their deliveries in words, as the pages show them."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.views.main import SEARCH_VAR
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from users.admin.display import NOT_SET, moment
from users.application.webhooks import DeliveryView, EndpointState, EndpointView

COUNTED_TO = 1000
"""`EndpointView.waiting` goes no further."""


def list_rows(endpoints: Iterable[EndpointView]) -> list[dict[str, Any]]:
    return [
        {
            "page": reverse("admin:users_webhookendpoint_change", args=[endpoint.id]),
            "url": endpoint.url,
            "description": endpoint.description or NOT_SET,
            "types": endpoint.event_types or ("all",),
            "state": state_badge(endpoint.state),
            "position": endpoint.position,
            "waiting": _waiting(endpoint),
            "failing_since": moment(endpoint.failing_since),
        }
        for endpoint in endpoints
    ]


def facts(endpoint: EndpointView) -> list[tuple[str, Any]]:
    """What there is to say of it beside its settings, and only what is the case."""
    said = [
        ("State", state_badge(endpoint.state)),
        ("Paused", endpoint.paused_at and f"{moment(endpoint.paused_at)}: {endpoint.paused_because}"),
        ("Failing since", endpoint.failing_since and _failing(endpoint)),
        ("Next attempt", endpoint.state == EndpointState.RETRYING and moment(endpoint.next_attempt_at)),
        ("Position", f"{endpoint.position} (all up to this sequence is dealt with)"),
        ("Waiting", _waiting(endpoint)),
        ("Old secret signs until", endpoint.previous_secret_until and moment(endpoint.previous_secret_until)),
        ("Added", moment(endpoint.created_at)),
        ("Changed", moment(endpoint.updated_at)),
        ("Id", endpoint.id),
    ]
    return [(name, value) for name, value in said if value]


def delivery_rows(endpoint: EndpointView, deliveries: Iterable[DeliveryView]) -> list[dict[str, Any]]:
    redeliver = reverse("admin:users_webhookendpoint_redeliver", args=[endpoint.id])
    events = reverse("admin:users_outboxevent_changelist")
    return [
        {
            "time": moment(delivery.attempted_at),
            "kind": delivery.kind,
            "type": delivery.event_type,
            "event": delivery.sequence and f"{events}?{urlencode({SEARCH_VAR: delivery.event_id})}",
            "sequence": delivery.sequence or NOT_SET,
            "again": delivery.sequence and f"{redeliver}?{urlencode({'sequence': delivery.sequence})}",
            "attempt": delivery.attempt,
            "status": delivery.status or NOT_SET,
            "duration": f"{delivery.duration_ms} ms",
            "accepted": delivery.error is None,
            "outcome": outcome(delivery),
        }
        for delivery in deliveries
    ]


def state_badge(state: str) -> SafeString:
    return format_html('<span class="status status-{0}">{0}</span>', state)


def _waiting(endpoint: EndpointView) -> str:
    more = " or more" if endpoint.waiting >= COUNTED_TO else ""
    return f"{endpoint.waiting:,}{more}"


def _failing(endpoint: EndpointView) -> str:
    times = f"{endpoint.failures:,} time{'' if endpoint.failures == 1 else 's'}"
    return f"{moment(endpoint.failing_since)}, {times}"


def outcome(delivery: DeliveryView) -> str:
    """In a word or two; what status the receiver has refused it with stands beside it."""
    if delivery.error is None:
        return "accepted"
    return "refused" if delivery.error == "status" else delivery.error.replace("_", " ")
