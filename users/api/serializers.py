"""The form of requests.

Forms say which fields there are, and of which type. The rules of their values stand in the domain, which has
the last word; fields repeat them for the OpenAPI document, as JSON Schema, and a test holds both together."""

import re
from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from users.application.event_schemas import EVENT_TYPES
from users.application.queries import MAX_PAGE, MAX_WAIT
from users_domain.errors import InvalidUserId
from users_domain.value_objects import Email, Locale, Role, UserId, UserStatus

# As in the domain: what str.strip() takes away, and what `has_control_characters` refuses.
_SPACE = r"\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BEYOND_ASCII = r"\u007f-\u009f\u2028-\u202e\u2066-\u2069"
_CONTROL = r"\u0000-\u001f" + _BEYOND_ASCII
_CONTROL_BUT_TAB_AND_LINE_FEED = r"\u0000-\u0008\u000b-\u001f" + _BEYOND_ASCII

NO_NUL = r"^[^\u0000]*$"
NAME = rf"^[{_SPACE}]*[^{_SPACE}{_CONTROL}][^{_CONTROL}]{{0,98}}[^{_SPACE}{_CONTROL}][{_SPACE}]*$"
REASON = (
    rf"^[{_SPACE}]*[^{_SPACE}{_CONTROL}]"
    rf"(?:(?:[^{_CONTROL_BUT_TAB_AND_LINE_FEED}]|\r\n){{0,498}}[^{_SPACE}{_CONTROL}])?[{_SPACE}]*$"
)
LINE = rf"^[{_SPACE}]*(?:[^{_SPACE}{_CONTROL}](?:[^{_CONTROL}]{{0,198}}[^{_SPACE}{_CONTROL}])?)?[{_SPACE}]*$"
USER_ID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"


@extend_schema_field({"type": "string", "pattern": NO_NUL})
class Text(serializers.CharField):
    """A JSON string, nothing that could be made one. The domain trims it, and refuses what is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, allow_blank=True, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


@extend_schema_field({"type": "string", "format": "idn-email", "maxLength": 254})
class EmailText(Text):
    """An address; international ones too, but no quoted local parts and no address literals."""


@extend_schema_field({"type": "string", "pattern": NAME})
class NameText(Text):
    """What UserName takes."""


@extend_schema_field({"type": "string", "minLength": 8, "maxLength": 256, "pattern": NO_NUL})
class NewPasswordText(Text):
    """What the password policy may take."""


@extend_schema_field({"type": "string", "pattern": REASON})
class ReasonText(Text):
    """What BlockReason takes."""


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "enum": [role.value for role in Role]},
        "uniqueItems": True,
        "maxItems": len(Role),
    }
)
class Roles(serializers.ListField):
    """A set of texts; which of them are roles, Role.parse says."""

    default_error_messages = {"repeated": "Name each role once."}

    def __init__(self, **options: Any) -> None:
        super().__init__(child=Text(), max_length=len(Role), **options)

    def to_internal_value(self, data: Any) -> list[str]:
        names: list[str] = super().to_internal_value(data)
        if len(set(names)) < len(names):
            self.fail("repeated")
        return names


@extend_schema_field({"type": "string", "format": "date-time"})
class Instant(serializers.DateTimeField):
    """RFC 3339 with its offset."""

    FORM = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
    default_error_messages = {"form": "Write a time like 2026-01-31T09:30:00Z."}

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or not self.FORM.fullmatch(value):
            self.fail("form")
        try:
            return super().to_internal_value(value.upper())
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


@extend_schema_field({"type": "string", "enum": [locale.value for locale in Locale]})
class LanguageText(Text):
    """What Locale takes."""


class RegisterBody(StrictSerializer):
    email = EmailText(help_text="Unique; kept in lower case, the domain as an A-label.")
    name = NameText(help_text="2 to 100 characters after trimming, no control characters.")
    password = NewPasswordText(
        help_text="8 to 256 characters; none of the most common or breached ones, and not made of the "
        "address, the name or this service's name alone.",
        write_only=True,
    )
    locale = LanguageText(
        required=False,
        write_only=True,
        help_text="The language of mails to the user; else the one that `Accept-Language` prefers.",
    )


class RenameBody(StrictSerializer):
    name = NameText(help_text="2 to 100 characters after trimming, no control characters.")


class ChangeEmailBody(StrictSerializer):
    email = EmailText(help_text="Unique; kept in lower case, the domain as an A-label.")
    password = Text(
        required=False, write_only=True, help_text="The current password: needed for your own account."
    )


class ChangePasswordBody(StrictSerializer):
    current_password = Text(write_only=True)
    new_password = NewPasswordText(
        write_only=True, help_text="As for a registration; an operator's or admin's has 15 at least."
    )


class ChangeRolesBody(StrictSerializer):
    roles = Roles(help_text="All of the user's roles.")


class BlockBody(StrictSerializer):
    reason = ReasonText(help_text="1 to 500 characters after trimming; line breaks may be among them.")
    until = Instant(
        required=False, allow_null=True, help_text="When the block ends by itself, in the future; or null."
    )


class OneFieldOnly(StrictSerializer):
    """Of fields that exclude each other, the one that is meant."""

    def validate(self, attributes: dict[str, Any]) -> dict[str, Any]:
        if len(attributes) != 1:
            names = [str(name) for name in self.fields]
            fault = serializers.ErrorDetail(f"Give {' or '.join(names)}.", code="exactly_one")
            raise serializers.ValidationError(dict.fromkeys(names, fault))
        return attributes


class NoBody(StrictSerializer):
    """Nothing, or an empty object."""


class LogInBody(StrictSerializer):
    email = Text()
    password = Text(write_only=True)


class RefreshBody(StrictSerializer):
    refresh = Text(write_only=True, help_text="A refresh token.")


class Number(serializers.IntegerField):
    """Decimal digits and nothing else that int() would take."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", str(data), re.ASCII):
            self.fail("invalid")
        return super().to_internal_value(data)


class Word(serializers.CharField):
    """A text that stands for itself, white space included."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, min_length=1, **options)


@extend_schema_field({"type": "string", "pattern": r"^[^\u0000]+$", "minLength": 1})
class FreeWord(Word):
    """Any text."""


@extend_schema_field({"type": "string", "format": "idn-email", "maxLength": 254})
class EmailWord(Word):
    """What Email takes."""


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "format": "uuid", "pattern": f"^{USER_ID}$"},
        "minItems": 1,
        "maxItems": MAX_PAGE,
    }
)
class UserIds(Word):
    """Ids, comma separated."""

    def to_internal_value(self, data: Any) -> Any:
        ids = super().to_internal_value(data).split(",")
        if len(ids) > MAX_PAGE:
            raise serializers.ValidationError(f"At most {MAX_PAGE} ids.", code="too_many")
        try:
            return [str(UserId.parse(part)) for part in ids]
        except InvalidUserId as error:
            raise serializers.ValidationError(str(error), code="invalid") from None


@extend_schema_field(
    {
        "type": "array",
        "items": {"type": "string", "enum": list(EVENT_TYPES)},
        "minItems": 1,
        "maxItems": len(EVENT_TYPES),
        "uniqueItems": True,
    }
)
class EventTypeNames(Word):
    """Types of events, comma separated, each once."""

    default_error_messages = {
        "unknown": "There is no event type {name!r}. There are: " + ", ".join(EVENT_TYPES) + ".",
        "repeated": "Name each type once.",
    }

    def to_internal_value(self, data: Any) -> Any:
        names = super().to_internal_value(data).split(",")
        for name in names:
            if name not in EVENT_TYPES:
                self.fail("unknown", name=name)
        if len(set(names)) < len(names):
            self.fail("repeated")
        return names


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
    limit = Number(min_value=1, max_value=MAX_PAGE, default=50, help_text="How many at most.")
    cursor = FreeWord(required=False, max_length=500, help_text="Where `next` of the page before goes on.")


class ListQuery(PageQuery):
    status = serializers.ChoiceField(required=False, choices=[status.value for status in UserStatus])
    role = serializers.ChoiceField(required=False, choices=[role.value for role in Role])
    email = EmailWord(required=False, max_length=254, help_text="Exactly this address, in any spelling.")
    email_prefix = FreeWord(required=False, max_length=254, help_text="How the address begins; any case.")
    q = FreeWord(required=False, max_length=100, help_text="A part of the address or the name; any case.")
    ids = UserIds(required=False, help_text="Up to 100 ids, comma separated.")
    created_after = Instant(required=False, help_text="Later than this.")
    created_before = Instant(required=False, help_text="Earlier than this.")

    def validate_email(self, value: str) -> str:
        return str(Email(value))

    def validate_email_prefix(self, value: str) -> str:
        return value.lower()


class FeedQuery(StrictQuery):
    after = Number(min_value=0, max_value=2**63 - 1, default=0, help_text="A sequence: only later events.")
    limit = Number(min_value=1, max_value=MAX_PAGE, default=50, help_text="How many at most.")
    types = EventTypeNames(required=False, help_text="Only events of these types, comma separated.")
    wait = Number(
        min_value=0,
        max_value=MAX_WAIT,
        default=0,
        help_text="Seconds that the answer may be held back while there is nothing new for you.",
    )


class UserQuery(StrictQuery):
    min_version = Number(
        min_value=0, max_value=2**63 - 1, default=0, help_text="Never answer with an older version than this."
    )
