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
from users.application.errors import InvalidCredentials, InvalidToken, SessionNotFound
from users.application.ports import (
    AccessTokens,
    Clock,
    LoginGuard,
    Measure,
    PasswordHasher,
    PasswordHashes,
    RateLimits,
    RefreshTokens,
    SessionStore,
    UnitOfWork,
)
from users.application.reruns import Reruns
from users.application.session import Refresh, Session
from users_domain.errors import InvalidEmail, UserBlocked, UserNotFound
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import SYSTEM, Actor, Email, EndOfSession, UserId

ACCESS_SLACK = timedelta(minutes=1)
"""For the clocks of several hosts: so much longer an ended session is remembered than its tokens live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """`address` and `user_agent`: where from, and on what, as far as is known."""

    email: str
    password: str = field(repr=False)
    address: str = ""
    user_agent: str = ""


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


class _HadEnded(Exception):
    """Takes back what was done to the user."""


class Sessions:
    def __init__(
        self,
        *,
        users: UserRepository,
        unit_of_work: UnitOfWork,
        store: SessionStore,
        hasher: PasswordHasher,
        hashes: PasswordHashes,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        guard: LoginGuard,
        limits: RateLimits,
        lifetimes: Lifetimes,
        clock: Clock,
        measure: Measure,
        reused: Callable[[str, UUID], None],
        reruns: Reruns,
    ) -> None:
        """`reused` is told of a user and a session whose refresh token was copied."""
        self._users = users
        self._unit_of_work = unit_of_work
        self._store = store
        self._hasher = hasher
        self._hashes = hashes
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._guard = guard
        self._limits = limits
        self._lifetimes = lifetimes
        self._clock = clock
        self._measure = measure
        self._reused = reused
        self._reruns = reruns

    # --- In ---------------------------------------------------------------------------------------

    def log_in(self, command: LogIn) -> Tokens:
        """A new session. Exactly one hash is computed whatever the outcome, so that time tells nothing; but
        whose right password has an outdated hash pays for a better one.
        Raises InvalidCredentials for an unknown address and a wrong password alike; UserBlocked only to
        somebody who knows the password; RateLimited."""
        with self._measure("log_in"):
            user, now = self.authenticate(command), self._clock()
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
            self._store.open(session, refresh, most=self._lifetimes.most)
            return self._tokens(user, session, refresh)

    def authenticate(self, command: LogIn) -> User:
        """The user with this address and password. Raises as `log_in`."""
        self._guard.admit(command.email, command.address)
        user = self._find(command.email)
        try:
            user = self._proven(user, command.password)
        except (InvalidCredentials, UserBlocked) as refusal:
            known = str(user.id) if user else None
            self._guard.note_failure(command.email, known, command.address, reason=refusal.code)
            raise
        self._guard.note_success(command.email, str(user.id), command.address)
        self._renew_hash(user, command.password)
        return user

    def _renew_hash(self, user: User, password: str) -> None:
        renewed = self._hasher.renewed(password, user.password_hash)
        if renewed is not None:
            self._hashes.replace(user.id, user.password_hash, renewed)

    def _proven(self, user: User | None, password: str) -> User:
        if not self._hasher.verify(password, user.password_hash if user else None) or user is None:
            raise InvalidCredentials
        user.refuse_blocked(self._clock())
        return user

    def _find(self, email: str) -> User | None:
        try:
            return self._users.get_by_email(Email(email))
        except (InvalidEmail, UserNotFound):
            return None

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
            self._end(session, EndOfSession.TOKEN_REUSED, SYSTEM)
            self._reused(session.user_id, session.id)
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
        ours: a session that has ended already is what the caller wants."""
        with self._measure("log_out"):
            presented = self._refresh_tokens.read(token)
            try:
                session = self._store.live(presented.session_id, self._clock())
            except InvalidToken:
                return
            self._end(session, EndOfSession.LOG_OUT, Actor(session.user_id))

    def log_out_everywhere(self, user_id: str, *, by: Actor) -> None:
        """Every token of the user is worthless. Raises UserNotFound."""

        def attempt() -> None:
            with self._unit_of_work() as users:
                user, now = users.get(UserId.parse(user_id)), self._clock()
                user.end_all_sessions(by=by, now=now)
                users.save(user)
                self._store.end_all(user_id, now)

        with self._measure("log_out_everywhere"):
            self._reruns(attempt)

    def of(self, user_id: str) -> Sequence[Session]:
        """The user's live sessions, newest first. Raises UserNotFound."""
        user = self._users.get(UserId.parse(user_id))
        return self._store.of(user_id, user.token_version, self._clock())

    def end(self, user_id: str, session_id: str, *, by: Actor) -> None:
        """Raises UserNotFound, SessionNotFound: also for one that has ended, or is another user's."""
        with self._measure("end_session"):
            named = {str(session.id): session for session in self.of(user_id)}
            if session_id not in named:
                raise SessionNotFound
            self._end(named[session_id], EndOfSession.REVOKED, by)

    def _end(self, session: Session, cause: EndOfSession, by: Actor) -> None:
        """Nothing where somebody was faster, or the user is no more."""

        def attempt() -> None:
            with self._unit_of_work() as users:
                user, now = users.get(UserId.parse(session.user_id)), self._clock()
                user.end_session(
                    session.id,
                    cause,
                    forget_before=now - self._lifetimes.access - ACCESS_SLACK,
                    by=by,
                    now=now,
                )
                users.save(user)  # the user's row first, as everywhere: two who lock in two orders block
                if not self._store.end(session.id, now):
                    raise _HadEnded

        try:
            self._reruns(attempt)
        except (UserNotFound, _HadEnded):
            return
