"""The port to where users are kept."""

from typing import Protocol

from users_domain.user import User
from users_domain.value_objects import Email, UserId


class UserRepository(Protocol):
    """Erased users are not in here any more."""

    def get(self, user_id: UserId) -> User:
        """Raises UserNotFound."""
        ...

    def hold(self, user_id: UserId) -> User:
        """As `get`, and until the unit of work ends nobody else changes the user: whoever may not lose a race
        waits instead. Raises UserNotFound."""
        ...

    def get_by_email(self, email: Email) -> User:
        """Raises UserNotFound."""
        ...

    def is_last_admin(self, user: User) -> bool:
        """Whether `user` is an active admin and no other one is. The answer stays true until the unit of
        work ends: two admins cannot depose each other at the same time."""
        ...

    def add(self, user: User) -> None:
        """A newborn. Raises UserAlreadyExists when the address is taken."""
        ...

    def save(self, user: User) -> None:
        """Compares and swaps: raises ConcurrentUpdate unless the stored version is still the one that was
        loaded, UserAlreadyExists when a new address is taken. A user without changes is left alone."""
        ...
