"""The form of requests about an account by mail."""

from users.api.serializers import EmailText, NewPasswordText, StrictSerializer, Text


class AddressBody(StrictSerializer):
    email = EmailText(help_text="Whether anybody has this address or not: the answer is the same.")


class LinkBody(StrictSerializer):
    token = Text(write_only=True, help_text="From the link in the mail.")


class ResetPasswordBody(LinkBody):
    new_password = NewPasswordText(
        write_only=True, help_text="As for a registration; an operator's or admin's has 15 at least."
    )
