"""What an event does: to the copy of the users, and to the tokens that they carry."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from .events import SET_ASIDE, Event
from .store import Store, User
from .users_api import ERASED

SKEW_SECONDS = 2.0
"""How far the clocks of two hosts may lie apart."""
TOKEN_SECONDS = 3600.0
"""What events say about tokens is kept for so long; tokens.py refuses those that live longer."""
COMMAND_SECONDS = 60.0
"""A command of the user service is committed by then: PostgreSQL ends its statements and transactions."""

REVOKING = frozenset({"user.blocked", "user.password_changed", "user.roles_changed", "user.erased"})
"""Every token that the user was issued before is worthless."""
DOUBTFUL = frozenset({"user.sessions_ended"})
"""Tokens of one session, or all, are worthless: which of those that were issued before, the service knows."""


class Users(Protocol):
    """What handlers ask the user service for."""

    def user(self, user_id: str, *, min_version: int) -> dict[str, Any]: ...


Changes = Callable[[Any], dict[str, Any]]

CHANGES: dict[str, Changes] = {
    "user.created": lambda data: {"email": data["email"], "name": data["name"], "status": "active"},
    "user.renamed": lambda data: {"name": data["name"]},
    "user.email_changed": lambda data: {"email": data["email"]},
    "user.email_verified": lambda data: {},
    "user.password_changed": lambda data: {},
    "user.roles_changed": lambda data: {},
    "user.blocked": lambda data: {"status": "blocked"},
    "user.unblocked": lambda data: {"status": "active"},
    "user.sessions_ended": lambda data: {},
    "user.erased": lambda data: {"status": ERASED, "email": None, "name": None},
}
"""By type: which of the columns that we keep change, from the event's data. Types that are not here may come:
they are counted and change nothing."""


class Handlers:
    def __init__(self, store: Store, users: Users, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._users = users
        self._clock = clock

    def apply(self, event: Event) -> None:
        """The event's whole effect and the new position, in one transaction. Raises whatever is wrong; then
        nothing has happened."""
        user = self._user_after(event)
        with self._store.transaction():
            self._keep(user)
            self._note_tokens(event)
            if event.type not in CHANGES and event.type != SET_ASIDE:
                self._store.count_unknown()
            self._store.move_to(event.sequence)

    def give_up(self, sequence: int, event: Event | None, envelope: str, error: str) -> None:
        """Buries what cannot be handled, and moves on. What it would have said about tokens is not known, so
        they are in doubt."""
        now = self._clock()
        with self._store.transaction():
            self._store.bury(sequence, event.user_id if event else None, envelope, error, now=now)
            if event:
                self._note_tokens(event, certain=False)
            self._store.move_to(sequence)
            if not event:
                self._store.doubt_all_tokens(now + SKEW_SECONDS)

    def apply_late(self, event: Event) -> None:
        """What a dead letter leaves to do. The service says how the user is now: nobody can say any more what
        belongs between the events that were applied since."""
        known = self._store.user(event.user_id)
        stale = known is None or known.user_version < event.user_version
        user = self._as_he_is_now(event) if stale else None
        with self._store.transaction():
            self._keep(user)
            self._store.dig_up(event.sequence)

    def rebuild(self, users: Iterable[dict[str, Any]], *, position: int) -> None:
        """Another copy instead of this one, from which events behind `position` go on. What the events that
        nobody tells any more said about tokens is not known, so all tokens are in doubt."""
        in_doubt_until = self._clock() + SKEW_SECONDS
        self._store.replace_users(map(_as_user, users), position=position, in_doubt_until=in_doubt_until)

    def forget_old(self) -> None:
        """What was said about tokens that have expired since."""
        self._store.forget_token_events(in_doubt_until=self._clock() - TOKEN_SECONDS - SKEW_SECONDS)

    def _user_after(self, event: Event) -> User | None:
        """The user as he is since the event, None when the copy knows better already. Where the copy lacks
        what happened between (a tombstone, a dead letter), the service says how he is now."""
        known = self._store.user(event.user_id)
        version = known.user_version if known else 0
        if event.user_version <= version:
            return None
        if event.user_version > version + 1 or event.type == SET_ASIDE:
            return self._as_he_is_now(event)
        changes = CHANGES.get(event.type, lambda data: {})(event.data)
        if known:
            return replace(known, user_version=event.user_version, **changes)
        if event.type != "user.created":
            return self._as_he_is_now(event)
        return User(id=event.user_id, user_version=event.user_version, **changes)

    def _as_he_is_now(self, event: Event) -> User:
        return _as_user(self._users.user(event.user_id, min_version=event.user_version))

    def _keep(self, user: User | None) -> None:
        if user is None:
            return
        self._store.put_user(user)
        if user.status == ERASED:
            self._store.forget_letters_about(user.id)

    def _note_tokens(self, event: Event, *, certain: bool = True) -> None:
        """Tokens from clearly before a revoking event are worthless. Those issued up to now are in doubt: the
        event tells when its command began, which was committed later, before it came to us. What may be
        revoking or not (a tombstone, a type of the future), or is for some tokens, raises doubt only."""
        if certain and event.type in CHANGES and event.type not in REVOKING | DOUBTFUL:
            return
        now = self._clock()
        in_doubt_until = min(now, event.timestamp + COMMAND_SECONDS) + SKEW_SECONDS
        if in_doubt_until < now - TOKEN_SECONDS - SKEW_SECONDS:
            return
        self._store.note_token_event(
            event.user_id,
            refused_before=event.timestamp - SKEW_SECONDS if event.type in REVOKING else 0.0,
            in_doubt_until=in_doubt_until,
            sequence=event.sequence,
        )


def _as_user(fields: dict[str, Any]) -> User:
    """A user as the service tells him."""
    gone = fields["status"] == ERASED
    return User(
        id=fields["id"],
        email=None if gone else fields["email"],
        name=None if gone else fields["name"],
        status=fields["status"],
        user_version=fields["version"],
    )
