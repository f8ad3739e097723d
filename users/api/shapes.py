"""What answers look like, for the OpenAPI document: nothing is rendered by these."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from users.api.serializers import USER_ID
from users.application.event_schemas import EVENT_TYPES
from users_domain.value_objects import Role, UserStatus


@extend_schema_field({"type": "string", "format": "uuid", "pattern": f"^{USER_ID}$"})
class UserIdShape(serializers.CharField):
    pass


@extend_schema_field({"type": "string", "format": "date-time", "pattern": "Z$"})
class TimeShape(serializers.CharField):
    """In UTC."""


@extend_schema_field({"type": ["string", "null"], "format": "uri-reference"})
class NextShape(serializers.CharField):
    pass


class BlockShape(serializers.Serializer[Any]):
    reason = serializers.CharField()
    at = TimeShape()
    until = TimeShape(allow_null=True, help_text="Null: until somebody unblocks.")
    by = serializers.CharField(help_text="A user id, `cli` or `system`.")


class UserShape(serializers.Serializer[Any]):
    id = UserIdShape()
    email = serializers.CharField(help_text="In its canonical form.")
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=[status.value for status in UserStatus])
    blocked = BlockShape(allow_null=True)
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[role.value for role in Role]))
    email_verified = serializers.BooleanField()
    created_at = TimeShape()
    updated_at = TimeShape()
    version = serializers.IntegerField(min_value=1, help_text="Counts the facts of the user's life.")


class UserPageShape(serializers.Serializer[Any]):
    results = UserShape(many=True)
    next = NextShape(help_text="The address of the next page, relative to this host; null at the end.")


class EventShape(serializers.Serializer[Any]):
    event_type = serializers.ChoiceField(choices=EVENT_TYPES)
    event_id = serializers.UUIDField(help_text="The same for every repeat of the event.")
    timestamp = TimeShape()
    data = serializers.DictField(  # type: ignore[assignment]
        help_text="The event's own fields, by the schema of its type: `/schema/events/{name}`."
    )
    user_id = UserIdShape()
    user_version = serializers.IntegerField(min_value=1, help_text="The version that this fact made.")
    sequence = serializers.IntegerField(
        min_value=1, allow_null=True, help_text="Place among all events; null until the relay has given it."
    )
    request_id = serializers.CharField(allow_null=True, help_text="Of the request that caused it.")
    actor_id = serializers.CharField(allow_null=True, help_text="A user id, `cli`, `system`, or null.")


class EventPageShape(serializers.Serializer[Any]):
    results = EventShape(many=True)
    next = NextShape(help_text="The address of the next page, relative to this host; null at the end.")


class TokenShape(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="A JWT, good for five minutes.")
