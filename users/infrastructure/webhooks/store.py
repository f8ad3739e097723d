"""Endpoints and the delivery log in PostgreSQL."""

from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from users.application.errors import WebhookNotFound
from users.application.webhook_endpoint import Answer, DeliveryView, Endpoint, EndpointState, Message
from users.application.webhook_ports import Change
from users.infrastructure import outbox
from users.infrastructure.webhooks.signing import SealedSecrets
from users.models import WebhookDelivery, WebhookEndpoint

FORGOTTEN_AT_ONCE = 5000


class DatabaseEndpoints:
    def add(self, endpoint: Endpoint) -> None:
        WebhookEndpoint.objects.create(**columns(endpoint))

    def get(self, endpoint_id: str) -> Endpoint:
        if row := WebhookEndpoint.objects.filter(id=_uuid(endpoint_id)).first():
            return loaded(row)
        raise WebhookNotFound

    def all(self) -> list[Endpoint]:
        return [loaded(row) for row in WebhookEndpoint.objects.order_by("created_at", "id")]

    def change(self, endpoint_id: str, change: Change) -> Endpoint:
        with transaction.atomic():
            changed = change(loaded(_locked(endpoint_id)))
            WebhookEndpoint.objects.filter(id=changed.id).update(**columns(changed))
        return changed

    def delete(self, endpoint_id: str, check: Change) -> None:
        with transaction.atomic():
            row = _locked(endpoint_id)
            check(loaded(row))
            row.delete()


class DatabaseDeliveryLog:
    def note(
        self, endpoint: Endpoint, message: Message, answer: Answer, *, kind: str, at: datetime
    ) -> DeliveryView:
        try:
            return shown(WebhookDelivery.objects.create(**entry(endpoint, message, answer, kind=kind, at=at)))
        except IntegrityError as error:  # its endpoint is gone; nothing else about an entry is constrained
            raise WebhookNotFound from error

    def page(self, endpoint_id: str, *, limit: int, before: int | None) -> list[DeliveryView]:
        rows = WebhookDelivery.objects.filter(endpoint_id=_uuid(endpoint_id)).order_by("-id")
        if before is not None:
            rows = rows.filter(id__lt=before)
        return [shown(row) for row in rows[:limit]]


def forget_old_deliveries(now: datetime, *, days: int) -> int:
    """Deletes what is older from the log, in portions, and answers how many rows."""
    old = WebhookDelivery.objects.filter(attempted_at__lt=now - timedelta(days=days))
    forgotten = 0
    while ids := list(old.values_list("id", flat=True)[:FORGOTTEN_AT_ONCE]):
        forgotten += WebhookDelivery.objects.filter(id__in=ids).delete()[0]
    return forgotten


def forget_old_secrets(now: datetime) -> int:
    """Those that were rotated away and sign no more; answers how many."""
    over = WebhookEndpoint.objects.filter(previous_secret_until__lte=now)
    return over.update(previous_secret=None, previous_secret_until=None)


def renew_seals(store: DatabaseEndpoints, secrets: SealedSecrets) -> None:
    """After SECRET_KEY has changed, so that the old one can go from the fallbacks soon."""

    def renewed(endpoint: Endpoint) -> Endpoint:
        previous = endpoint.previous_secret
        return replace(
            endpoint,
            secret=secrets.renewed(endpoint.secret),
            previous_secret=previous and secrets.renewed(previous),
        )

    for endpoint in store.all():
        if renewed(endpoint) != endpoint:
            with suppress(WebhookNotFound):
                store.change(endpoint.id, renewed)


@dataclass(frozen=True, slots=True)
class Census:
    """`states`: how many endpoints are in each. `lag`: how many events, wanted or not, lie behind the
    position of the enabled endpoint that is furthest behind."""

    states: Counter[EndpointState]
    lag: int


def census() -> Census:
    endpoints = DatabaseEndpoints().all()
    sequenced, _ = outbox.position()
    behind = [sequenced - endpoint.position for endpoint in endpoints if endpoint.enabled]
    return Census(Counter(endpoint.state for endpoint in endpoints), max([0, *behind]))


def columns(endpoint: Endpoint) -> dict[str, Any]:
    """All but the lease, which is the dispatcher's."""
    return asdict(endpoint) | {"event_types": list(endpoint.event_types)}


def loaded(row: WebhookEndpoint) -> Endpoint:
    return Endpoint(
        id=str(row.id),
        url=row.url,
        description=row.description,
        event_types=tuple(row.event_types),
        secret=row.secret,
        previous_secret=row.previous_secret,
        previous_secret_until=row.previous_secret_until,
        enabled=row.enabled,
        position=row.position,
        failures=row.failures,
        failing_since=row.failing_since,
        next_attempt_at=row.next_attempt_at,
        paused_at=row.paused_at,
        paused_because=row.paused_because,
        created_at=row.created_at,
        updated_at=row.updated_at,
        version=row.version,
    )


def entry(endpoint: Endpoint, message: Message, answer: Answer, *, kind: str, at: datetime) -> dict[str, Any]:
    """The columns of the log for one attempt, made when the endpoint was as given."""
    return {
        "endpoint_id": endpoint.id,
        "kind": kind,
        "event_id": message.event_id,
        "event_type": message.event_type,
        "sequence": message.sequence,
        "attempt": endpoint.failures + 1 if kind == "event" else 1,
        "attempted_at": at,
        "duration_ms": answer.duration_ms,
        "status": answer.status,
        "error": answer.error,
    }


def shown(row: WebhookDelivery) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        kind=row.kind,
        event_id=str(row.event_id),
        event_type=row.event_type,
        sequence=row.sequence,
        attempt=row.attempt,
        attempted_at=row.attempted_at,
        duration_ms=row.duration_ms,
        status=row.status,
        error=row.error,
    )


def _locked(endpoint_id: str) -> WebhookEndpoint:
    """For the rest of the transaction."""
    row = WebhookEndpoint.objects.select_for_update().filter(id=_uuid(endpoint_id)).first()
    if row is None:
        raise WebhookNotFound
    return row


def _uuid(endpoint_id: str) -> UUID:
    """From the 36-character form only."""
    try:
        value = UUID(endpoint_id)
    except ValueError:
        raise WebhookNotFound from None
    if str(value) != endpoint_id.lower():
        raise WebhookNotFound
    return value
