"""Idempotency keys in PostgreSQL, claimed in the command's own transaction."""

from datetime import datetime, timedelta

import orjson
from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from users.application.ports import Answered, KeyTaken
from users.application.representation import UserView
from users.infrastructure.repository import constraint_of
from users.models import IDEMPOTENCY_UNIQUE, IdempotencyRecord


class DatabaseIdempotencyKeys:
    def find(self, scope: str, key: str) -> Answered | None:
        record = IdempotencyRecord.objects.filter(scope=scope, key=key).first()
        if record is None:
            return None
        if record.created_at < _oldest():
            record.delete()
            return None
        view = UserView(
            id=str(record.user_id),
            version=orjson.loads(record.response)["version"],
            token_version=1,
            json=record.response.encode(),
        )
        return Answered(record.fingerprint, view)

    def claim(self, scope: str, key: str, answered: Answered) -> None:
        record = IdempotencyRecord(
            scope=scope,
            key=key,
            fingerprint=answered.fingerprint,
            user_id=answered.view.id,
            response=answered.view.json.decode(),
            created_at=timezone.now(),
        )
        try:
            record.save(force_insert=True)
        except IntegrityError as error:
            if constraint_of(error) == IDEMPOTENCY_UNIQUE:
                raise KeyTaken from error
            raise


def forget_old_keys() -> int:
    """Deletes what nobody may ask for any more, and answers how many."""
    deleted, _ = IdempotencyRecord.objects.filter(created_at__lt=_oldest()).delete()
    return deleted


def _oldest() -> datetime:
    return timezone.now() - timedelta(hours=settings.IDEMPOTENCY_HOURS)
