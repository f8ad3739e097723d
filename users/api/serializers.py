"""The form of requests: which fields, of which type. The rules of their values stand in the domain."""

import re
from datetime import datetime
from typing import Any

from rest_framework import serializers

from users.application.queries import MAX_PAGE
from users_domain.errors import InvalidUserId
from users_domain.value_objects import Email, Role, UserId, UserStatus


class Text(serializers.CharField):
    """A JSON string, nothing that could be made one; neither trimmed nor refused when empty: the domain does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, allow_blank=True, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data  # type: ignore[no-any-return]


class Instant(serializers.DateTimeField):
    """RFC 3339 with its offset."""

    FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
    default_error_messages = {"form": "Write a time like 2026-01-31T09:30:00Z."}

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or not self.FORM.fullmatch(value):
            self.fail("form")
        try:
            return super().to_internal_value(value.upper())  # type: ignore[no-any-return]
        except (OverflowError, ValueError):
            self.fail("form")


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses what it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError(
                {name: serializers.ErrorDetail("There is no such field.", code="unknown") for name in unknown}
            )
        return super().to_internal_value(data)


class RegisterBody(StrictSerializer):
    email = Text(help_text="Unique; kept in lower case, the domain as an A-label.")
    name = Text(help_text="2 to 100 characters after trimming.")
    password = Text(help_text="8 to 256 characters.", write_only=True)


class RenameBody(StrictSerializer):
    name = Text(help_text="2 to 100 characters after trimming.")


class ChangeEmailBody(StrictSerializer):
    email = Text()
    password = Text(required=False, write_only=True, help_text="The current password; for your own account.")


class ChangePasswordBody(StrictSerializer):
    current_password = Text(write_only=True)
    new_password = Text(write_only=True)


class ChangeRolesBody(StrictSerializer):
    roles = serializers.ListField(child=Text(), max_length=len(Role), help_text="All of the user's roles.")


class BlockBody(StrictSerializer):
    reason = Text(help_text="1 to 500 characters.")
    until = Instant(required=False, allow_null=True, help_text="When the block ends by itself.")


class NoBody(StrictSerializer):
    """Nothing, or an empty object."""


class LogInBody(StrictSerializer):
    email = Text()
    password = Text(write_only=True)


class StrictQuery(StrictSerializer):
    """A query string: each parameter once."""

    def to_internal_value(self, data: Any) -> Any:
        repeated = [name for name in data if len(data.getlist(name)) > 1]
        if repeated:
            raise serializers.ValidationError(
                {name: serializers.ErrorDetail("Give it once.", code="repeated") for name in repeated}
            )
        return super().to_internal_value(data.dict())


class PageQuery(StrictQuery):
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=50)
    cursor = serializers.CharField(
        required=False, max_length=500, help_text="From `next` of the page before."
    )


class ListQuery(PageQuery):
    status = serializers.ChoiceField(required=False, choices=[status.value for status in UserStatus])
    role = serializers.ChoiceField(required=False, choices=[role.value for role in Role])
    email = serializers.CharField(required=False, max_length=254, help_text="Exactly this address.")
    email_prefix = serializers.CharField(required=False, max_length=254)
    q = serializers.CharField(required=False, max_length=100, help_text="A part of the address or the name.")
    ids = serializers.CharField(required=False, max_length=3700, help_text="Up to 100 ids, comma separated.")
    created_after = Instant(required=False)
    created_before = Instant(required=False)

    def validate_email(self, value: str) -> str:
        return str(Email(value))

    def validate_email_prefix(self, value: str) -> str:
        return value.strip().lower()

    def validate_ids(self, value: str) -> list[str]:
        ids = [part.strip() for part in value.split(",")]
        if len(ids) > MAX_PAGE:
            raise serializers.ValidationError(f"At most {MAX_PAGE} ids.", code="too_many")
        try:
            return [str(UserId.parse(part)) for part in ids]
        except InvalidUserId as error:
            raise serializers.ValidationError(str(error), code="invalid") from None


class FeedQuery(StrictQuery):
    after = serializers.IntegerField(min_value=0, max_value=2**63 - 1, default=0, help_text="A sequence.")
    limit = serializers.IntegerField(min_value=1, max_value=MAX_PAGE, default=50)


class UserQuery(StrictQuery):
    min_version = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=0)


# --- What answers look like, for the OpenAPI document ------------------------------------------------


class BlockShape(serializers.Serializer[Any]):
    reason = serializers.CharField()
    at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    by = serializers.CharField(help_text="A user id, `cli` or `system`.")


class UserShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    email = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=[status.value for status in UserStatus])
    blocked = BlockShape(allow_null=True)
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[role.value for role in Role]))
    email_verified = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField(min_value=1)


class UserPageShape(serializers.Serializer[Any]):
    results = UserShape(many=True)
    next = serializers.URLField(allow_null=True)


class EventShape(serializers.Serializer[Any]):
    event_type = serializers.CharField()
    event_id = serializers.UUIDField()
    timestamp = serializers.DateTimeField()
    data = serializers.DictField()
    user_id = serializers.UUIDField()
    user_version = serializers.IntegerField(min_value=1)
    sequence = serializers.IntegerField(allow_null=True)
    request_id = serializers.CharField(allow_null=True)
    actor_id = serializers.CharField(allow_null=True)


class EventPageShape(serializers.Serializer[Any]):
    results = EventShape(many=True)
    next = serializers.URLField(allow_null=True)


class TokenShape(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="A JWT, good for five minutes.")


class ProblemDetailShape(serializers.Serializer[Any]):
    field = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
