"""The versions of a user that a caller is willing to change (If-Match)."""

from users_domain.errors import VersionMismatch
from users_domain.user import User

ANY_VERSION: frozenset[int] = frozenset()


def refuse_other_version(user: User, expected: frozenset[int]) -> None:
    """Raises VersionMismatch, unless the user has one of these versions, or any will do."""
    if expected and user.version not in expected:
        raise VersionMismatch
