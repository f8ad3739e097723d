"""What is done by mail: forgotten passwords, and addresses that are to be proven."""

from collections.abc import Mapping

from users.api import account_forms as forms
from users.api import shapes
from users.api.operations.operation import Json, Operation

TOKEN = "WyIwMTk4YzFhMiIsIjNmNWQiXQ:1vXb2c:4Q0aXk3nB7cTz1mWq8uR5sYd2eFh6jKp9oLgVtZxC"  # noqa: S105 - none
ADDRESS: Json = {"email": "ann@example.com"}
LINK: Json = {"token": TOKEN}
BAD_LINKS = "A link that is not good, or not any more, is `invalid_request` with the code `invalid_link`."

ACCOUNT_OPERATIONS: Mapping[str, Operation] = {
    "request_password_reset": Operation(
        tag="accounts",
        summary="Ask for a link to a new password",
        text="By mail, good for 30 minutes. The answer is the same, and as fast, whether anybody has this "
        "address or not.",
        body=forms.AddressBody,
        body_example=ADDRESS,
        status=202,
        answer=shapes.AcceptedShape,
        answer_example={},
        problems=("rate_limited",),
    ),
    "reset_password": Operation(
        tag="accounts",
        summary="Choose a new password by a link",
        text="Every token issued before is refused from then on; log in with the new password. The address "
        "is proven by this too. Whoever is blocked stays blocked. The link is used up, and dies with any "
        f"other change of the account. {BAD_LINKS}",
        body=forms.ResetPasswordBody,
        body_example=LINK | {"new_password": "a staple, or several of them"},
        status=204,
        problems=("concurrent_update",),
    ),
    "request_email_verification": Operation(
        tag="accounts",
        summary="Ask for a link that proves an address",
        text="By mail, good for a day, if an account has this address and has not proven it yet. The answer "
        "is the same, and as fast, whether that is so or not.",
        body=forms.AddressBody,
        body_example=ADDRESS,
        status=202,
        answer=shapes.AcceptedShape,
        answer_example={},
        problems=("rate_limited",),
    ),
    "verify_email": Operation(
        tag="accounts",
        summary="Prove an address by a link",
        text="A second time it is no error, as long as the user has this address. " + BAD_LINKS,
        body=forms.LinkBody,
        body_example=LINK,
        status=204,
        problems=("concurrent_update",),
    ),
    "confirm_email_change": Operation(
        tag="accounts",
        summary="Take over a new address by a link",
        text="The address changes, and is proven. The link dies with any other change of the account, when "
        "another address is asked for, when the old address's owner cancels, and after a day. " + BAD_LINKS,
        body=forms.LinkBody,
        body_example=LINK,
        status=204,
        problems=("user_already_exists", "concurrent_update"),
    ),
    "cancel_email_change": Operation(
        tag="accounts",
        summary="Cancel a change of address by a link",
        text="For whoever is told at the old address and has not asked for it. A second time it is no error, "
        "as long as the account has not changed. " + BAD_LINKS,
        body=forms.LinkBody,
        body_example=LINK,
        status=204,
        problems=("concurrent_update",),
    ),
}
