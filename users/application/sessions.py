"""Logging in."""

from dataclasses import dataclass, field

from uuid_utils.compat import uuid7

from users.application.errors import InvalidCredentials
from users.application.ports import AccessTokens, Clock, Measure, PasswordHasher
from users_domain.errors import InvalidEmail, UserNotFound
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import Email


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    email: str
    password: str = field(repr=False)


class Sessions:
    def __init__(
        self,
        *,
        users: UserRepository,
        hasher: PasswordHasher,
        tokens: AccessTokens,
        clock: Clock,
        measure: Measure,
    ) -> None:
        self._users = users
        self._hasher = hasher
        self._tokens = tokens
        self._clock = clock
        self._measure = measure

    def log_in(self, command: LogIn) -> str:
        """An access token. Exactly one hash is computed whatever the outcome, so that time tells nothing.
        Raises InvalidCredentials for an unknown address and a wrong password alike; UserBlocked only to
        somebody who knows the password."""
        with self._measure("log_in"):
            return self._tokens.issue(self.authenticate(command), uuid7())

    def authenticate(self, command: LogIn) -> User:
        """The user with this address and password. Raises as `log_in`."""
        user = self._find(command.email)
        if not self._hasher.verify(command.password, user.password_hash if user else None) or user is None:
            raise InvalidCredentials
        user.refuse_blocked(self._clock())
        return user

    def _find(self, email: str) -> User | None:
        try:
            return self._users.get_by_email(Email(email))
        except (InvalidEmail, UserNotFound):
            return None
