"""PasswordHashes over PostgreSQL: a hash is replaced by a better one of the same password."""

import structlog
from django.db import DatabaseError, InterfaceError, connection

from users_domain.value_objects import UserId

log = structlog.get_logger(__name__)

# Past the aggregate, for nothing that is true of the user changes: no version, no event. Whoever is changing
# the row right now is not waited for: the next login tries again.
_REPLACE = """
    UPDATE users SET password_hash = %s WHERE id = (
        SELECT id FROM users WHERE id = %s AND password_hash = %s FOR UPDATE SKIP LOCKED
    )
"""


class DatabasePasswordHashes:
    def replace(self, user_id: UserId, old: str, new: str) -> bool:
        try:
            with connection.cursor() as cursor:
                cursor.execute(_REPLACE, [new, user_id.value, old])
                return bool(cursor.rowcount == 1)
        except (DatabaseError, InterfaceError) as error:
            # Not the error itself: it might quote the statement's values.
            log.warning("password_hash_not_renewed", user_id=str(user_id), error=type(error).__name__)
            return False
