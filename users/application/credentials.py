"""Proving who one is by address and password: at every login, to the API and to the admin pages."""

from dataclasses import dataclass, field

from users.application.errors import InvalidCredentials
from users.application.ports import Clock, LoginGuard, PasswordHasher, PasswordHashes
from users_domain.errors import InvalidEmail, UserBlocked, UserNotFound
from users_domain.repository import UserRepository
from users_domain.user import User
from users_domain.value_objects import Email


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIn:
    """`address` and `user_agent`: where from, and on what, as far as is known."""

    email: str
    password: str = field(repr=False)
    address: str = ""
    user_agent: str = ""


class Credentials:
    def __init__(
        self,
        *,
        users: UserRepository,
        hasher: PasswordHasher,
        hashes: PasswordHashes,
        guard: LoginGuard,
        clock: Clock,
    ) -> None:
        self._users = users
        self._hasher = hasher
        self._hashes = hashes
        self._guard = guard
        self._clock = clock

    def authenticate(self, command: LogIn) -> User:
        """The user with this address and password. Exactly one hash is computed whatever the outcome, so that
        time tells nothing; but whose right password has an outdated hash pays for a better one.

        Raises InvalidCredentials for an unknown address and a wrong password alike; UserBlocked only to
        somebody who knows the password; RateLimited."""
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
