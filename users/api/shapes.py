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
    email = serializers.CharField(
        allow_null=True, help_text="In its canonical form; null when the user is erased."
    )
    name = serializers.CharField(allow_null=True, help_text="Null when the user is erased.")
    status = serializers.ChoiceField(choices=[status.value for status in UserStatus])
    blocked = BlockShape(allow_null=True)
    roles = serializers.ListField(child=serializers.ChoiceField(choices=[role.value for role in Role]))
    email_verified = serializers.BooleanField()
    created_at = TimeShape()
    updated_at = TimeShape()
    version = serializers.IntegerField(min_value=1, help_text="Counts the facts of the user's life.")


class SessionShape(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="As in the claim `sid` of its tokens.")
    device = serializers.CharField(allow_null=True, help_text="As the device called itself at login.")
    address = serializers.CharField(allow_null=True, help_text="The network that the login came from.")
    created_at = TimeShape()
    last_used_at = TimeShape(help_text="When it was last refreshed.")
    expires_at = TimeShape(help_text="When it ends at the latest.")
    current = serializers.BooleanField(help_text="Whether this is the session that asks.")


class SessionPageShape(serializers.Serializer[Any]):
    results = SessionShape(many=True)
    next = NextShape(help_text="Always null: there are never so many.")


class AcceptedShape(serializers.Serializer[Any]):
    """Nothing that would tell anything."""


class EmailProposalShape(serializers.Serializer[Any]):
    email = serializers.CharField(help_text="The address that waits for its proof, in its canonical form.")
    expires_at = TimeShape(help_text="Until when it waits.")


class ErasureShape(serializers.Serializer[Any]):
    id = UserIdShape()
    status = serializers.ChoiceField(choices=[UserStatus.ERASED.value])
    erased_at = TimeShape()
    version = serializers.IntegerField(min_value=1, help_text="The user's last.")
    event_id = serializers.UUIDField(help_text="Of `user.erased`.")
    receipt = serializers.CharField(
        help_text="The same, signed: a compact JWS of the type `erasure-receipt+jwt`, by a key of "
        "`/.well-known/jwks.json`."
    )


class ExportedUserShape(UserShape):
    locale = serializers.CharField(help_text="The language of mails.")
    token_version = serializers.IntegerField()
    ended_sessions = serializers.DictField(child=TimeShape(), help_text="By id, when each ended.")


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


class ExportShape(serializers.Serializer[Any]):
    exported_at = TimeShape()
    note = serializers.CharField(help_text="What is left out, and why.")
    user = ExportedUserShape()
    email_change = serializers.DictField(allow_null=True, help_text="The address that waits for its proof.")
    sessions = serializers.ListField(child=serializers.DictField(), help_text="Logins.")
    mails = serializers.ListField(child=serializers.DictField(), help_text="Sent, or to be sent.")
    idempotency = serializers.ListField(
        child=serializers.DictField(), help_text="Answers kept for an Idempotency-Key, for a day."
    )
    admin_log = serializers.ListField(
        child=serializers.DictField(), help_text="What was done on the admin pages by or to this user."
    )
    events = EventShape(many=True)


class EventPageShape(serializers.Serializer[Any]):
    results = EventShape(many=True)
    next = NextShape(help_text="The address of the next page, relative to this host; null at the end.")


class TokenShape(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="A JWT, signed: send it as `Authorization: Bearer <token>`.")
    refresh = serializers.CharField(help_text="For `POST /auth/token/refresh`, once; a secret of the device.")
