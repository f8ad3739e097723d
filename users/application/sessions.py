"""Logging in, staying logged in, and logging out.

A session is one login on one device: a family of refresh tokens, each of which can be used once and then has
a successor. A used one that turns up again was copied by somebody, so the session ends; but for a moment
(`grace`) it leads to the same successor, for two tabs that ask at once, or an answer that got lost.

Access tokens of a session that has ended, or of an account that has changed, are refused by what stands with
the user (`User.ended_sessions`, `User.token_version`): see `UserView.accepts`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from users.application import addresses
from users.application.credentials import Credentials, LogIn
from users.application.errors import InvalidToken, SessionNotFound
from users.application.ports import (
    AccessTokens,
    Clock,
    Measure,
    RateLimits,
    RefreshTokens,
    SessionStore,
    UnitOfWork,
)
from users.application.reruns import Reruns
from users.application.session import Refresh, Session
from users.application.versions import ANY_VERSION, refuse_other_version
from users_domain.errors import UserNotFound
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import SYSTEM, Actor, EndOfSession, UserId

LONGEST_ACCESS = timedelta(hours=1)
"""For so long at least an ended session is remembered: access tokens may live longer than those of today."""


@dataclass(frozen=True, slots=True)
class Tokens:
    access: str = field(repr=False)
    refresh: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """`idle`: how long a refresh token waits to be used; `absolute`: how long a session lasts at most;
    `grace`: how long a used refresh token still leads to its successor; `most`: sessions of one user at a
    time, the oldest of which make room."""

    access: timedelta
    idle: timedelta
    absolute: timedelta
    grace: timedelta
    most: int


class Sessions:
    def __init__(
        self,
        *,
        credentials: Credentials,
        users: UserRepository,
        unit_of_work: UnitOfWork,
        store: SessionStore,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        limits: RateLimits,
        lifetimes: Lifetimes,
        clock: Clock,
        measure: Measure,
        reused: Callable[[str, UUID], None],
        reruns: Reruns,
    ) -> None:
        """`reused` is told of a user and a session whose refresh token was copied."""
        self._credentials = credentials
        self._users = users
        self._unit_of_work = unit_of_work
        self._store = store
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._limits = limits
        self._lifetimes = lifetimes
        self._clock = clock
        self._measure = measure
        self._reused = reused
        self._reruns = reruns

    # --- In ---------------------------------------------------------------------------------------

    def log_in(self, command: LogIn) -> Tokens:
        """A new session. Raises as `Credentials.authenticate`."""
        with self._measure("log_in"):
            user, now = self._credentials.authenticate(command), self._clock()
            session = Session(
                id=uuid7(),
                user_id=str(user.id),
                token_version=user.token_version,
                user_agent=command.user_agent,
                address=addresses.prefix_of(command.address),
                created_at=now,
                last_used_at=now,
                expires_at=now + self._lifetimes.absolute,
            )
            refresh = self._next(session, now)
            for surplus in self._store.open(session, refresh, most=self._lifetimes.most):
                self._end(surplus, EndOfSession.REPLACED, SYSTEM)
            return self._tokens(user, session, refresh)

    # --- On ---------------------------------------------------------------------------------------

    def refresh(self, token: str) -> Tokens:
        """The token's successor, and an access token for the user as he is now. Raises InvalidToken,
        RateLimited."""
        with self._measure("refresh"):
            presented, now = self._refresh_tokens.read(token), self._clock()
            self._limits.hold(refresh=str(presented.session_id))
            with self._unit_of_work() as users:
                session = self._store.live(presented.session_id, now)
                successor = self._rotate(session, presented, now)
                if successor:
                    return self._tokens(self._holder(users, session), session, successor)
            self._reused(session.user_id, session.id)
            self._end(session, EndOfSession.TOKEN_REUSED, SYSTEM)
            raise InvalidToken

    def _rotate(self, session: Session, presented: Refresh, now: datetime) -> Refresh | None:
        """What follows the presented token; None when that was used before. Of several who present it at
        once one makes the successor, and all get it."""
        successor = self._next(session, now)
        if self._store.consume(presented.jti, successor, now):
            return successor
        return self._store.successor_of(presented.jti, consumed_since=now - self._lifetimes.grace)

    def _next(self, session: Session, now: datetime) -> Refresh:
        return Refresh(
            jti=uuid7(),
            session_id=session.id,
            user_id=session.user_id,
            issued_at=now.replace(microsecond=0),  # as tokens count
            expires_at=min(now + self._lifetimes.idle, session.expires_at).replace(microsecond=0),
        )

    def _holder(self, users: UserRepository, session: Session) -> User:
        try:
            return users.get(UserId.parse(session.user_id))
        except UserNotFound:
            raise InvalidToken from None

    def _tokens(self, user: User, session: Session, refresh: Refresh) -> Tokens:
        """The one way to tokens, and so the one check of the account's state. Raises InvalidToken when it has
        changed since the session began, UserBlocked."""
        if user.token_version != session.token_version:
            raise InvalidToken
        user.refuse_blocked(self._clock())
        return Tokens(self._access_tokens.issue(user, session.id), self._refresh_tokens.issue(refresh))

    # --- Out --------------------------------------------------------------------------------------

    def log_out(self, token: str) -> None:
        """Ends the session of a refresh token, used or not. Raises InvalidToken only for what is none of
        ours: a session that has ended already is what the caller wants. Raises RateLimited."""
        with self._measure("log_out"):
            presented = self._refresh_tokens.read(token)
            self._limits.hold(refresh=str(presented.session_id))
            try:
                session = self._store.live(presented.session_id, self._clock())
            except InvalidToken:
                return
            self._end(session, EndOfSession.LOG_OUT, Actor(session.user_id))

    def log_out_everywhere(self, user_id: str, *, by: Actor, expected: frozenset[int] = ANY_VERSION) -> None:
        """Every token of the user is worthless. Raises UserNotFound, VersionMismatch."""

        def attempt(_: bool) -> None:
            with self._unit_of_work() as users:
                user, now = users.hold(UserId.parse(user_id)), self._clock()
                refuse_other_version(user, expected)
                user.end_all_sessions(by=by, now=now)
                users.save(user)
                self._store.end_all(user_id, now)

        with self._measure("log_out_everywhere"):
            self._reruns(attempt)

    def of(self, user_id: str) -> Sequence[Session]:
        """The user's live sessions, newest first. Raises UserNotFound."""
        user = self._users.get(UserId.parse(user_id))
        return self._store.of(user_id, user.token_version, self._clock())

    def end(
        self, user_id: str, session_id: str, *, by: Actor, expected: frozenset[int] = ANY_VERSION
    ) -> None:
        """Raises UserNotFound, SessionNotFound: also for one that has ended, or is another user's;
        VersionMismatch."""
        with self._measure("end_session"):
            named = {str(session.id): session for session in self.of(user_id)}
            if session_id not in named:
                raise SessionNotFound
            self._end(named[session_id], EndOfSession.REVOKED, by, expected)

    def _end(
        self,
        session: Session,
        cause: EndOfSession,
        by: Actor,
        expected: frozenset[int] = ANY_VERSION,
    ) -> None:
        """Nothing where somebody was faster, or the user is no more. Others wait meanwhile, or a thief who
        changes the user all the time could keep a session alive."""

        def attempt(_: bool) -> None:
            with self._unit_of_work() as users:
                user, now = users.hold(UserId.parse(session.user_id)), self._clock()
                refuse_other_version(user, expected)
                if not self._store.end(session.id, now):
                    return
                forget_before = now - max(self._lifetimes.access, LONGEST_ACCESS)
                before = user.token_version
                user.end_session(session.id, cause, forget_before=forget_before, by=by, now=now)
                if user.token_version != before:  # one too many to remember: all have ended
                    self._store.end_all(session.user_id, now)
                users.save(user)

        try:
            self._reruns(attempt)
        except UserNotFound:
            return
