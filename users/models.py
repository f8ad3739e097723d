"""The tables: columns, constraints and indexes. What may happen to a user stands in `users_domain`."""

from collections.abc import Iterator
from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models.functions import Upper
from django.utils import timezone
from django.utils.crypto import salted_hmac

from users_domain.value_objects import Role

EMAIL_UNIQUE = "users_email_unique"
EVENT_VERSION_UNIQUE = "outbox_user_version_unique"
IDEMPOTENCY_UNIQUE = "idempotency_scope_key_unique"
MAIL_UNIQUE = "mails_event_kind_unique"

SEARCHED = Upper(
    models.Func(
        "email",
        "name",
        template="'zq' || %(expressions)s",
        arg_joiner=" || chr(10) || ",
        output_field=models.TextField(),
    )
)
"""What `users_search_idx` knows the trigrams of; the letters at its beginning are for what begins there."""


class UserRecord(models.Model):
    """A user's row, and what Django's login machinery asks of AUTH_USER_MODEL."""

    id = models.UUIDField(primary_key=True, editable=False)
    email = models.CharField(max_length=254, null=True)
    name = models.CharField(max_length=100, null=True)
    status = models.CharField(max_length=8)
    roles = ArrayField(models.CharField(max_length=16), default=list)
    password_hash = models.CharField(max_length=255)
    email_verified = models.BooleanField(default=False)
    locale = models.CharField(max_length=8, null=True, db_default="en")
    block_reason = models.CharField(max_length=500, null=True)
    blocked_at = models.DateTimeField(null=True)
    blocked_until = models.DateTimeField(null=True)
    blocked_by = models.CharField(max_length=64, null=True)
    token_version = models.IntegerField()
    ended_sessions = models.JSONField(default=dict, db_default={})
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    version = models.IntegerField()

    objects: ClassVar[models.Manager["UserRecord"]] = models.Manager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]
    is_anonymous = False
    is_authenticated = True

    class Meta:
        db_table = "users"
        verbose_name = "user"
        constraints = [
            models.UniqueConstraint(fields=["email"], name=EMAIL_UNIQUE),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "blocked", "erased"]), name="users_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status="blocked", block_reason__isnull=False, blocked_at__isnull=False)
                | (
                    ~models.Q(status="blocked")
                    & models.Q(block_reason=None, blocked_at=None, blocked_until=None)
                ),
                name="users_block_complete",
            ),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="users_version_positive"),
            models.CheckConstraint(
                condition=models.Q(status="erased", email=None, name=None, locale=None, password_hash="")
                | (~models.Q(status="erased") & models.Q(email__isnull=False, name__isnull=False)),
                name="users_erased_empty",
            ),
        ]
        indexes = [
            models.Index(models.F("created_at").desc(), models.F("id").desc(), name="users_created_idx"),
            # None on the status: see UserStanding.
            models.Index(OpClass("email", name="varchar_pattern_ops"), name="users_email_prefix_idx"),
            # Both in one index, which then goes through what they have in common alone; see
            # users.infrastructure.search.
            GinIndex(
                models.Func(
                    "created_at",
                    function="users_periods",
                    output_field=ArrayField(models.BigIntegerField()),
                ),
                OpClass(SEARCHED, name="gin_trgm_ops"),
                name="users_search_idx",
                fastupdate=False,  # else searches go through all that was written lately
            ),
            *(
                models.Index(
                    models.F("created_at").desc(),
                    models.F("id").desc(),
                    condition=models.Q(roles__contains=[role.value]),
                    name=f"users_{role.value}_idx",
                )
                for role in Role
            ),
            models.Index(
                fields=["blocked_until"],
                condition=models.Q(blocked_until__isnull=False),
                name="users_blocked_until_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>" if self.email else f"erased user {self.id}"

    def get_username(self) -> str:
        return self.email or str(self.id)

    def natural_key(self) -> tuple[str]:
        return (self.get_username(),)

    @property
    def is_active(self) -> bool:
        """A block whose time has run out keeps nobody out, even before the worker has lifted it."""
        ended = self.blocked_until is not None and self.blocked_until <= timezone.now()
        return self.status == "active" or (self.status == "blocked" and ended)

    @property
    def is_staff(self) -> bool:
        return "admin" in self.roles or "operator" in self.roles

    is_superuser = False

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Staff may look at everything in the admin; changes go through commands, not permissions."""
        return self.is_active and self.is_staff and ".view_" in perm

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_staff

    def get_session_auth_hash(self) -> str:
        """Whatever makes access tokens worthless ends the admin session too."""
        return self._session_hash(settings.SECRET_KEY)

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """The same by older secrets: Django asks when the hash above is not the session's."""
        return (self._session_hash(secret) for secret in settings.SECRET_KEY_FALLBACKS)

    def _session_hash(self, secret: str | bytes) -> str:
        value = f"{self.pk}:{self.token_version}"
        return salted_hmac("users.session", value, secret=secret, algorithm="sha256").hexdigest()


class UserStanding(models.Model):
    """The order of lists by status: an index kept by triggers on `users`, where the truth is. One of
    PostgreSQL's on `users.status` would make every block write into all indexes of the row. The columns have
    the names that they have there. See docs/adr/0016-lists-by-status.md."""

    user = models.OneToOneField(
        UserRecord,
        models.DO_NOTHING,  # a trigger does
        primary_key=True,
        db_column="id",
        db_constraint=False,
        related_name="standing",
    )
    status = models.CharField(max_length=8)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "user_standings"
        indexes = [
            models.Index(
                "status",
                models.F("created_at").desc(),
                models.F("user").desc(),
                name="user_standings_order_idx",
            ),
        ]


class OutboxEvent(models.Model):
    """A fact, written in the transaction that made it true. `sequence` is its public place in the feed,
    given by the relay after commit; `schema_version` that of `data`. A row that cannot be published is set
    aside: a tombstone takes its place in the stream and the feed. See docs/events.md."""

    id = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    event_type = models.CharField(max_length=64)
    schema_version = models.SmallIntegerField(db_default=1)
    user_id = models.UUIDField()
    user_version = models.IntegerField()
    occurred_at = models.DateTimeField()
    actor_id = models.CharField(max_length=64, null=True)
    request_id = models.CharField(max_length=64, null=True)
    data = models.JSONField()
    sequence = models.BigIntegerField(null=True, unique=True)
    set_aside_at = models.DateTimeField(null=True)
    set_aside_because = models.CharField(max_length=200, null=True)

    class Meta:
        db_table = "outbox"
        constraints = [models.UniqueConstraint(fields=["user_id", "user_version"], name=EVENT_VERSION_UNIQUE)]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(sequence=None), name="outbox_unsequenced_idx"),
            models.Index(fields=["event_type", "sequence"], name="outbox_type_sequence_idx"),
            models.Index(
                fields=["sequence"],
                condition=models.Q(set_aside_at__isnull=False),
                name="outbox_set_aside_idx",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"


class RelayPosition(models.Model):
    """One row: the last sequence given out, the last one known to be in the stream, the last one that
    retention has deleted, and when a worker's relay was last at work."""

    id = models.SmallIntegerField(primary_key=True)
    sequenced = models.BigIntegerField(default=0)
    published = models.BigIntegerField(default=0)
    pruned = models.BigIntegerField(db_default=0)
    heartbeat_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "relay_position"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="relay_position_single")]


class IdempotencyRecord(models.Model):
    """What was answered to a caller's Idempotency-Key, so that a repeat gets the same."""

    id = models.BigAutoField(primary_key=True)
    scope = models.CharField(max_length=64)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64)
    user_id = models.UUIDField(db_index=True)
    response = models.TextField()
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "idempotency"
        constraints = [models.UniqueConstraint(fields=["scope", "key"], name=IDEMPOTENCY_UNIQUE)]


class WebhookEndpoint(models.Model):
    """Where events are sent, and how far that has come: `position` is the last sequence that the receiver has
    accepted or did not want. `secret` and `previous_secret` are encrypted. The lease names the one worker
    that delivers now."""

    id = models.UUIDField(primary_key=True, editable=False)
    url = models.CharField(max_length=2000)
    description = models.CharField(max_length=200)
    event_types = ArrayField(models.CharField(max_length=64), default=list)
    secret = models.TextField()
    previous_secret = models.TextField(null=True)
    previous_secret_until = models.DateTimeField(null=True)
    enabled = models.BooleanField(default=True)
    position = models.BigIntegerField()
    failures = models.IntegerField(default=0)
    failing_since = models.DateTimeField(null=True)
    next_attempt_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True)
    paused_because = models.CharField(max_length=200, null=True)
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    version = models.IntegerField(default=1)

    class Meta:
        db_table = "webhook_endpoints"
        verbose_name = "webhook"

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One attempt to send one event, and what came of it: the delivery log. `error` is None for what the
    receiver has accepted."""

    id = models.BigAutoField(primary_key=True)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=12)
    event_id = models.UUIDField()
    event_type = models.CharField(max_length=64)
    sequence = models.BigIntegerField(null=True)
    attempt = models.IntegerField()
    attempted_at = models.DateTimeField(db_index=True)
    duration_ms = models.IntegerField()
    status = models.SmallIntegerField(null=True)
    error = models.CharField(max_length=200, null=True)

    class Meta:
        db_table = "webhook_deliveries"
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index("endpoint", models.F("id").desc(), name="webhook_deliveries_log_idx"),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.event_id}"


class Session(models.Model):
    """One login of a user on one device: a family of refresh tokens. Dead at `expires_at`, when it has ended,
    or when the user's token version is another one. `address` is a prefix: a network, not a machine."""

    id = models.UUIDField(primary_key=True, editable=False)
    user_id = models.UUIDField()
    token_version = models.IntegerField()
    user_agent = models.CharField(max_length=256)
    address = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    last_used_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "sessions"
        indexes = [models.Index("user_id", models.F("created_at").desc(), name="sessions_user_idx")]


class RefreshToken(models.Model):
    """What is known of a token that was given out, which itself is not. A consumed one has a successor."""

    jti = models.UUIDField(primary_key=True, editable=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="refresh_tokens")
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    consumed_at = models.DateTimeField(null=True, db_index=True)
    successor = models.UUIDField(null=True)

    class Meta:
        db_table = "refresh_tokens"


class EmailChange(models.Model):
    """An address that a user wants and has not proven yet. `fingerprint`: the account as it was then."""

    user_id = models.UUIDField(primary_key=True)
    email = models.CharField(max_length=254, db_index=True)
    fingerprint = models.CharField(max_length=32)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "email_changes"


class Mail(models.Model):
    """A mail that is to be sent, or was, and then has no address and no data any more. To a user, or to
    whoever has `email`."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=32)
    user_id = models.UUIDField(null=True, db_index=True)
    email = models.CharField(max_length=254, null=True, db_index=True)
    event_id = models.UUIDField(null=True)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_index=True)
    attempts = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, db_index=True)
    lease = models.UUIDField(null=True)
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, null=True)

    class Meta:
        db_table = "mails"
        constraints = [models.UniqueConstraint(fields=["event_id", "kind"], name=MAIL_UNIQUE)]


class MailPosition(models.Model):
    """One row: the last sequence of the feed whose mails are in the queue. `touched_at`: when a worker that
    sends mail was last at work."""

    id = models.SmallIntegerField(primary_key=True)
    position = models.BigIntegerField()
    touched_at = models.DateTimeField()

    class Meta:
        db_table = "mail_position"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="mail_position_single")]


class Erasure(models.Model):
    """A user who was erased, until nothing of him is left in Redis either: `swept_at`. `tried_at`: when that
    was last attempted in vain; the others: users/infrastructure/unswept.py."""

    user_id = models.UUIDField(primary_key=True)
    erased_at = models.DateTimeField()
    swept_at = models.DateTimeField(null=True, db_index=True)
    tried_at = models.DateTimeField(null=True)
    accounts = models.JSONField(default=list, db_default=[])
    had_roles = models.BooleanField(default=True, db_default=True)

    class Meta:
        db_table = "erasures"
