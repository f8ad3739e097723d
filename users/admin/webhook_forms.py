"""What is asked about a webhook, and how the service's refusals come back to the fields."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget

from users.application.errors import ApplicationError, InvalidWebhook
from users.application.webhooks import EVENT_TYPES, EndpointView
from users_domain.errors import DomainError, VersionMismatch

MAX_SEQUENCE = 2**63 - 1


class WebhookForm(forms.Form):
    url = forms.CharField(
        label="URL",
        max_length=2000,
        widget=AdminTextInputWidget(attrs={"class": "vLargeTextField", "inputmode": "url"}),
        help_text="Events are sent here by POST, signed as Standard Webhooks are.",
    )
    description = forms.CharField(
        required=False,
        max_length=200,
        widget=AdminTextInputWidget(attrs={"class": "vLargeTextField"}),
        help_text="For people: whose it is, whom to ask.",
    )
    event_types = forms.MultipleChoiceField(
        required=False,
        choices=[(name, name) for name in EVENT_TYPES],
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked: every event, those of future types too.",
    )
    enabled = forms.BooleanField(
        required=False,
        initial=True,
        help_text="Nothing is sent while it is off; what happens meanwhile waits.",
    )


class AddForm(WebhookForm):
    after = forms.IntegerField(
        label="Begin behind",
        required=False,
        min_value=0,
        max_value=MAX_SEQUENCE,
        help_text="A sequence: what comes after it is sent first. Empty: with the next event; 0: with all.",
    )


class VersionForm(forms.Form):
    """Asks nothing but that the webhook still is what the page has shown."""

    version = forms.IntegerField(widget=forms.HiddenInput)


class ChangeForm(WebhookForm, VersionForm):
    pass


class RedeliverForm(forms.Form):
    sequence = forms.IntegerField(
        min_value=1, max_value=MAX_SEQUENCE, help_text="As in the log, and in the list of events."
    )
    scope = forms.ChoiceField(
        label="What",
        initial="one",
        choices=[
            ("one", "Only this event: now, out of turn"),
            ("since", "This event and all behind it: in order, by the worker"),
        ],
        widget=forms.RadioSelect,
    )


def shown_in(form: type[forms.Form], endpoint: EndpointView) -> dict[str, Any]:
    """What the form's fields begin with."""
    return {name: getattr(endpoint, name) for name in form.base_fields}


@contextmanager
def refusals_in(form: forms.Form) -> Iterator[None]:
    """A refusal within becomes an error of the field that it is about, or of the whole form."""
    try:
        yield
    except InvalidWebhook as error:
        form.add_error(error.field if error.field in form.fields else None, str(error))
    except VersionMismatch:
        form.add_error(None, "It has been changed meanwhile: load the page anew to see how.")
    except (ApplicationError, DomainError) as error:
        form.add_error(None, str(error))
