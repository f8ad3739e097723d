"""What answers about webhooks look like, for the OpenAPI document: nothing is rendered by these."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from users.api.serializers import USER_ID
from users.api.shapes import NextShape, TimeShape
from users.application.webhooks import EVENT_TYPES, EndpointState


@extend_schema_field({"type": "string", "format": "uuid", "pattern": f"^{USER_ID}$"})
class WebhookIdShape(serializers.CharField):
    pass


class PauseShape(serializers.Serializer[Any]):
    at = TimeShape()
    because = serializers.CharField()


class WebhookShape(serializers.Serializer[Any]):
    id = WebhookIdShape()
    url = serializers.CharField()
    description = serializers.CharField()
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=EVENT_TYPES), help_text="Empty: every event."
    )
    enabled = serializers.BooleanField()
    state = serializers.ChoiceField(
        choices=[state.value for state in EndpointState],
        help_text="`retrying` after a failure; `paused` when it has been given up until somebody resumes.",
    )
    position = serializers.IntegerField(min_value=0, help_text="All up to this sequence is dealt with.")
    waiting = serializers.IntegerField(
        min_value=0, max_value=1000, help_text="How many events are to be sent; 1000 stands for more too."
    )
    failures = serializers.IntegerField(min_value=0, help_text="Since anything was accepted last.")
    failing_since = TimeShape(allow_null=True)
    next_attempt_at = TimeShape(allow_null=True)
    paused = PauseShape(allow_null=True)
    previous_secret_until = TimeShape(
        allow_null=True, help_text="Until then messages are signed with the secret before, too."
    )
    created_at = TimeShape()
    updated_at = TimeShape()
    version = serializers.IntegerField(min_value=1, help_text="Counts the changes that admins have made.")


class WebhookWithSecretShape(WebhookShape):
    secret = serializers.RegexField(r"^whsec_", help_text="For checking signatures; shown this once.")


class WebhookListShape(serializers.Serializer[Any]):
    results = WebhookShape(many=True)
    next = NextShape(help_text="Null: there are few, and this is all of them.")


class DeliveryShape(serializers.Serializer[Any]):
    id = serializers.IntegerField(min_value=1)
    kind = serializers.ChoiceField(choices=["event", "redelivery", "ping"])
    event_id = serializers.UUIDField(help_text="As in the header `webhook-id`.")
    event_type = serializers.CharField()
    sequence = serializers.IntegerField(min_value=1, allow_null=True, help_text="Null for a ping.")
    attempt = serializers.IntegerField(min_value=1)
    attempted_at = TimeShape()
    duration_ms = serializers.IntegerField(min_value=0)
    status = serializers.IntegerField(allow_null=True, help_text="The receiver's; null without an answer.")
    error = serializers.CharField(allow_null=True, help_text="Null when it was accepted (2xx).")


class DeliveryPageShape(serializers.Serializer[Any]):
    results = DeliveryShape(many=True)
    next = NextShape(help_text="The address of the next page, relative to this host; null at the end.")
