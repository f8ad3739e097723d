"""Users and their blocking."""

from collections.abc import Mapping

from users.api import serializers as forms
from users.api import shapes
from users.api.operations.operation import CONDITIONAL, Json, Operation

USER_ID = "0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"
USER: Json = {
    "id": USER_ID,
    "email": "ann@example.com",
    "name": "Ann Lee",
    "status": "active",
    "blocked": None,
    "roles": [],
    "email_verified": False,
    "created_at": "2026-01-31T09:30:00.000000Z",
    "updated_at": "2026-01-31T09:30:00.000000Z",
    "version": 1,
}
BLOCKED_USER: Json = USER | {
    "status": "blocked",
    "blocked": {
        "reason": "Charged back three orders",
        "at": "2026-02-01T08:00:00.000000Z",
        "until": "2099-03-01T00:00:00.000000Z",
        "by": "0198c1a2-0000-7000-8000-00000000000a",
    },
    "updated_at": "2026-02-01T08:00:00.000000Z",
    "version": 2,
}

ERASURE: Json = {
    "id": USER_ID,
    "status": "erased",
    "erased_at": "2026-03-01T10:00:00.000000Z",
    "version": 3,
    "event_id": "0198c1a2-9a10-7c33-8d52-2b4c6d8e0f11",
    "receipt": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjNxWi...In0.eyJzdWIiOiIwMTk4YzFhMi...In0.KpYx2cQd...",
}
EXPORT: Json = {
    "exported_at": "2026-02-28T10:00:00.000000Z",
    "note": "Left out are secrets.",
    "user": USER | {"locale": "en", "token_version": 1, "ended_sessions": {}},
    "email_change": None,
    "sessions": [],
    "mails": [],
    "idempotency": [],
    "admin_log": [],
    "events": [],
}

USER_OPERATIONS: Mapping[str, Operation] = {
    "register": Operation(
        tag="users",
        summary="Register a user",
        text="Anyone may, where registration is open; where it is closed, operators, admins and services. "
        "A token is not needed then, but one that is sent has to be good.\n\n"
        "With an `Idempotency-Key` a repeated request gets the first one's answer for 24 hours.\n\n"
        "Where `REGISTRATION_DISCLOSURE` is `accepted`, whoever is not staff or a service gets 202 and no "
        "user, for a new address and a taken one alike: its owner is told by mail.",
        body=forms.RegisterBody,
        body_example={"email": "ann@example.com", "name": "Ann Lee", "password": "seven green umbrellas"},
        sends=("Idempotency-Key",),
        status=201,
        answer=shapes.UserShape,
        answer_example=USER,
        answers_with=("Location", "ETag"),
        later=shapes.AcceptedShape,
        later_example={},
        problems=("user_already_exists", "concurrent_update", "idempotency_key_reused", "forbidden"),
        leads_to=("retrieve", "rename", "change_email", "change_roles", "block", "unblock", "history"),
    ),
    "list": Operation(
        tag="users",
        summary="List users",
        text="Newest first; all filters that are given must hold. There is no total count, and a page may "
        "be short, or empty, and still have a `next`: go on until `next` is null.",
        query=forms.ListQuery,
        answer=shapes.UserPageShape,
        answer_example={"results": [USER], "next": "/users?limit=1&cursor=WyIyMDI2LTAxLTMxV...:9-x2kQ"},
        problems=("forbidden",),
    ),
    "retrieve": Operation(
        tag="users",
        summary="Look up a user",
        about="user",
        query=forms.UserQuery,
        sends=("If-None-Match",),
        answer=shapes.UserShape,
        answer_example=USER,
        answers_with=("ETag",),
        not_modified=True,
        problems=("version_mismatch",),
        leads_to=("rename", "block", "history"),
    ),
    "rename": Operation(
        tag="users",
        summary="Rename a user",
        about="user",
        text="The name that the user has already is no change and makes no version.",
        body=forms.RenameBody,
        body_example={"name": "Ann Miller"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"name": "Ann Miller", "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", *CONDITIONAL),
        leads_to=("retrieve", "rename", "block"),
    ),
    "change_email": Operation(
        tag="users",
        summary="Change a user's email address",
        about="user",
        text="Your own account takes your current password. Where `EMAIL_CHANGE` is `verified`, your own "
        "address waits for its proof, and the answer is 202: a link goes to the new address, and one to "
        "cancel it all to the old one, which stays yours until then. Whether somebody else has the new one "
        "is not told. Otherwise it changes at once, and is unverified.",
        body=forms.ChangeEmailBody,
        body_example={"email": "ann.miller@example.com", "password": "seven green umbrellas"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"email": "ann.miller@example.com", "version": 2},
        answers_with=("ETag",),
        later=shapes.EmailProposalShape,
        later_example={"email": "ann.miller@example.com", "expires_at": "2026-02-01T09:30:00.000000Z"},
        problems=("wrong_password", "user_already_exists", "email_unchanged", *CONDITIONAL),
        leads_to=("retrieve", "change_email"),
    ),
    "change_password": Operation(
        tag="users",
        summary="Change your password",
        about="user",
        text="Every token issued before is refused from then on.",
        body=forms.ChangePasswordBody,
        body_example={
            "current_password": "seven green umbrellas",
            "new_password": "a staple, or several of them",
        },
        sends=("If-Match",),
        status=204,
        answers_with=("ETag",),
        problems=("wrong_password", *CONDITIONAL),
    ),
    "erase": Operation(
        tag="privacy",
        summary="Erase a user",
        about="user",
        text="For good: the id stays, and nothing that says whose it was. Every token of the user is refused "
        "from then on, his address is free again, and in the history and the feed his events are emptied. "
        "The receipt proves it without naming him. The last active admin stays. A body with any field is "
        "refused.",
        sends=("If-Match",),
        answer=shapes.ErasureShape,
        answer_example=ERASURE,
        answers_with=("ETag",),
        problems=("forbidden", *CONDITIONAL),
        leads_to=("retrieve", "history"),
    ),
    "export": Operation(
        tag="privacy",
        summary="Export all that is kept of a user",
        about="user",
        text="As a file: the account, its sessions, mails, events, and whatever else is kept of the person; "
        "no secrets. Long histories come in pieces, so there is no `Content-Length`.",
        answer=shapes.ExportShape,
        answer_example=EXPORT,
        answers_with=("Content-Disposition",),
        problems=("forbidden",),
    ),
    "change_roles": Operation(
        tag="users",
        summary="Change a user's roles",
        about="user",
        text="The list replaces all that the user has. Every token issued to him before is refused from then "
        "on. The last active admin keeps that role.",
        body=forms.ChangeRolesBody,
        body_example={"roles": ["service"]},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"roles": ["service"], "version": 2},
        answers_with=("ETag",),
        problems=("forbidden", *CONDITIONAL),
        leads_to=("retrieve", "change_roles"),
    ),
    "block": Operation(
        tag="blocking",
        summary="Block a user",
        about="user",
        text="Until `until`, or until somebody unblocks. The user's tokens are refused from the next request "
        "on. Nobody blocks himself or the last active admin, and an operator no operator or admin.",
        body=forms.BlockBody,
        body_example={"reason": "Charged back three orders", "until": "2099-03-01T00:00:00Z"},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=BLOCKED_USER,
        answers_with=("ETag",),
        problems=("forbidden", "user_already_blocked", *CONDITIONAL),
        leads_to=("retrieve", "unblock", "block"),
    ),
    "unblock": Operation(
        tag="blocking",
        summary="Unblock a user",
        about="user",
        body=forms.NoBody,
        body_example={},
        sends=("If-Match",),
        answer=shapes.UserShape,
        answer_example=USER | {"version": 3},
        answers_with=("ETag",),
        problems=("forbidden", "user_not_blocked", *CONDITIONAL),
        leads_to=("retrieve", "block", "unblock"),
    ),
}
