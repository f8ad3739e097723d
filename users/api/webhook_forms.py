"""The form of requests about webhooks."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from users.api.serializers import LINE, OneFieldOnly, StrictSerializer, Text
from users.application.webhooks import EVENT_TYPES

MAX_SEQUENCE = 2**63 - 1
_LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL = rf"^https?://{_LABEL}(?:\.{_LABEL}){{0,9}}(?::{_PORT})?(?:[/?][!-\"$-\[\]-~]*)?$"


@extend_schema_field({"type": "string", "pattern": URL, "maxLength": 2000})
class UrlText(Text):
    """Where a message may be sent. What the pattern leaves out, such as hosts that are IPv6 addresses, is
    rare enough; the service has the last word."""


@extend_schema_field({"type": "string", "pattern": LINE})
class LineText(Text):
    """A line for people, of at most 200 characters after trimming."""


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "enum": list(EVENT_TYPES)},
        "uniqueItems": True,
        "maxItems": len(EVENT_TYPES),
    }
)
class EventTypes(serializers.ListField):
    """A set of texts; which of them are types of events, the service says."""

    default_error_messages = {"repeated": "Name each type once."}

    def __init__(self, **options: Any) -> None:
        super().__init__(child=Text(), max_length=len(EVENT_TYPES), **options)

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value(data)
        if len(set(names)) < len(names):
            self.fail("repeated")
        return names


class Switch(serializers.BooleanField):
    """A JSON boolean, nothing that could be taken for one."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Sequence(serializers.IntegerField):
    """A JSON number without a fraction, no text that could be made one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_value=MAX_SEQUENCE, **options)

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            data = int(data)  # `1.0` is an integer of JSON Schema
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class WebhookFields(StrictSerializer):
    description = LineText(required=False, help_text="For people; at most 200 characters after trimming.")
    event_types = EventTypes(required=False, help_text="What is sent; an empty list means every event.")
    enabled = Switch(required=False, help_text="Whether anything is sent at all.")


class CreateWebhookBody(WebhookFields):
    url = UrlText(
        help_text="Where events are sent by POST: HTTPS and a public address, unless a setting allows others."
    )
    after = Sequence(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="Begin with what comes behind this sequence; null or absent: with the next event.",
    )


class ChangeWebhookBody(WebhookFields):
    url = UrlText(required=False, help_text="Another address lets a paused webhook try again at once.")


class RedeliverBody(OneFieldOnly):
    sequence = Sequence(required=False, min_value=1, help_text="Send this one event again, out of turn.")
    since = Sequence(
        required=False,
        min_value=1,
        help_text="Put the position back, so that this event and all behind it are sent again, in order.",
    )
