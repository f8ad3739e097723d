"""What is asked before a command is dispatched, and the dispatch itself."""

from datetime import datetime
from typing import ClassVar

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime, AdminTextareaWidget
from django.utils import timezone

from users import wiring
from users.admin.display import moment
from users.application.commands import BlockUser, UnblockUser
from users_domain.errors import InvalidBlock
from users_domain.value_objects import Actor, BlockReason


class ActForm(forms.Form):
    """What the page asks before a command is dispatched for each of several users."""

    verb: ClassVar[str]
    done: ClassVar[str]

    def dispatch(self, user_id: str, by: Actor) -> None:
        """Raises DomainError or ApplicationError."""
        raise NotImplementedError

    def note(self) -> str:
        """For the log of what was done on these pages. The reason stands in the event, and only there."""
        return f"{self.done}."


class BlockForm(ActForm):
    verb, done = "block", "Blocked"

    reason = forms.CharField(
        widget=AdminTextareaWidget(attrs={"rows": 3, "maxlength": 500, "autofocus": True}),
        help_text="Operators and other services see it, and it stays in the user's history.",
    )
    until = forms.SplitDateTimeField(
        widget=AdminSplitDateTime,
        required=False,
        help_text="The block ends by itself at this time, in UTC. Empty: until somebody unblocks.",
    )

    def clean_reason(self) -> str:
        try:
            return str(BlockReason(self.cleaned_data["reason"]))
        except InvalidBlock as error:
            raise forms.ValidationError(str(error)) from error

    def clean_until(self) -> datetime | None:
        until: datetime | None = self.cleaned_data["until"]
        if until and until <= timezone.now():
            raise forms.ValidationError("The end of a block lies in the future (UTC).")
        return until

    def dispatch(self, user_id: str, by: Actor) -> None:
        wiring.service().commands.block(BlockUser(user_id=user_id, by=by, **self.cleaned_data))

    def note(self) -> str:
        until = self.cleaned_data["until"]
        return f"Blocked{f' until {moment(until)}' if until else ''}."


class UnblockForm(ActForm):
    verb, done = "unblock", "Unblocked"

    def dispatch(self, user_id: str, by: Actor) -> None:
        wiring.service().commands.unblock(UnblockUser(user_id=user_id, by=by))
