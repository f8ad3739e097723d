"""Who delivers to which endpoint. One worker holds an endpoint at a time, for some seconds that each
delivery prolongs. Whatever it stores compares the lease and the version: a worker that was frozen, and whose
lease went to another, moves nothing; nor does one that acted on what an admin has changed meanwhile.

Leases end by PostgreSQL's clock, which all workers share."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, Subquery
from django.db.models.functions import Now

from users.application.event_schemas import SET_ASIDE
from users.application.ports import Clock
from users.application.webhook_endpoint import Endpoint
from users.infrastructure.webhooks.store import loaded
from users.models import RelayPosition, WebhookDelivery, WebhookEndpoint

Monotonic = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Lease:
    """`endpoint` is as last stored. `ends` is a lower bound of the lease's end, by this process's own clock,
    which goes on while the process is frozen."""

    token: UUID
    endpoint: Endpoint
    ends: float


class Leases:
    def __init__(self, *, seconds: float, clock: Clock, monotonic: Monotonic = time.monotonic) -> None:
        """`seconds`: longer than one attempt can take."""
        self._seconds = seconds
        self._clock = clock
        self._monotonic = monotonic

    def take(self, limit: int, *, retrying: bool) -> list[Lease]:
        """Endpoints that are due and have something to look at, those that have waited longest first;
        `retrying` says which kind: those whose last delivery failed, or the others."""
        if limit < 1 or not self._due(retrying=retrying).exists():
            return []  # an idle worker writes nothing, not even a row lock
        with transaction.atomic():
            due = self._due(retrying=retrying).order_by("next_attempt_at", "id")
            return [self._taken(row) for row in due.select_for_update(skip_locked=True)[:limit]]

    def holds(self, lease: Lease, *, seconds: float) -> bool:
        """Whether the lease is sure to last that much longer, unless an admin or a crash ends it."""
        return self._monotonic() + seconds < lease.ends

    def keep(self, lease: Lease, endpoint: Endpoint, entry: dict[str, Any]) -> Lease | None:
        """Stores what a delivery made of the endpoint together with its entry in the log, and goes on. None
        when the lease is not ours any more, or the endpoint has been changed: then only the entry is
        stored."""
        ends = self._monotonic() + self._seconds
        stored = self._store(lease, endpoint, entry, keep=True)
        return Lease(lease.token, endpoint, ends) if stored else None

    def give_back(self, lease: Lease, endpoint: Endpoint, entry: dict[str, Any]) -> bool:
        """The same, and lets the endpoint go. Whether it was still ours, and unchanged."""
        return self._store(lease, endpoint, entry, keep=False)

    def release(self, lease: Lease, endpoint: Endpoint) -> bool:
        """Stores where the endpoint is now, where that may be, and lets it go. Whether it was still ours, and
        unchanged."""
        stored = self._update(lease, False, **_progress(endpoint))
        if not stored:
            self._drop(lease)
        return stored

    def _store(self, lease: Lease, endpoint: Endpoint, entry: dict[str, Any], *, keep: bool) -> bool:
        try:
            with transaction.atomic():
                stored = self._update(lease, keep, **_progress(endpoint))
                WebhookDelivery.objects.create(**entry)
        except IntegrityError:  # the endpoint is gone, its log too
            return False
        if not stored:
            self._drop(lease)
        return stored

    def _due(self, *, retrying: bool) -> QuerySet[WebhookEndpoint]:
        relay = RelayPosition.objects.filter(id=1)
        published = Q(position__lt=Subquery(relay.values("published")))
        return WebhookEndpoint.objects.filter(
            Q(lease=None) | Q(leased_until__lt=Now()),
            Q(failures__gt=0) if retrying else Q(failures=0),
            enabled=True,
            paused_at=None,
            next_attempt_at__lte=self._clock(),
            position__lt=Subquery(relay.values("sequenced")),
        ).filter(published | ~Q(event_types__contains=[SET_ASIDE]))  # as `DatabaseFeed.end` has it

    def _taken(self, row: WebhookEndpoint) -> Lease:
        token, ends = uuid4(), self._monotonic() + self._seconds
        WebhookEndpoint.objects.filter(id=row.id).update(lease=token, leased_until=self._until())
        return Lease(token, loaded(row), ends)

    def _update(self, lease: Lease, keep: bool, **progress: Any) -> bool:
        end = {"leased_until": self._until()} if keep else {"lease": None, "leased_until": None}
        own = WebhookEndpoint.objects.filter(
            id=lease.endpoint.id, lease=lease.token, version=lease.endpoint.version
        )
        return bool(own.update(**end, **progress))

    def _drop(self, lease: Lease) -> None:
        """Of an endpoint that an admin has changed: the next round takes it as it is now."""
        own = WebhookEndpoint.objects.filter(id=lease.endpoint.id, lease=lease.token)
        own.update(lease=None, leased_until=None)

    def _until(self) -> Any:
        return Now() + timedelta(seconds=self._seconds)


def _progress(endpoint: Endpoint) -> dict[str, Any]:
    """The columns that deliveries move; all others are the admins'."""
    names = ("position", "failures", "failing_since", "next_attempt_at", "paused_at", "paused_because")
    return {name: getattr(endpoint, name) for name in names}
