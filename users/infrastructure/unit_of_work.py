"""One transaction for a user's row and his events; then, after commit, the cache and the relay."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg import errors as postgres

from users.application.representation import UserView, view_of
from users.infrastructure import outbox
from users.infrastructure.repository import DjangoUserRepository
from users_domain.errors import ConcurrentUpdate
from users_domain.events import UserEvent
from users_domain.repository import UserRepository

log = structlog.get_logger(__name__)

AfterCommit = Callable[[Sequence[UserView]], None]
"""What follows a commit, told of the users that it saved."""


class DjangoUnitOfWork:
    """Called, it opens a unit of work. `after_commit` receives what was saved; it cannot fail a command."""

    def __init__(self, after_commit: AfterCommit) -> None:
        self._after_commit = after_commit

    @contextmanager
    def __call__(self) -> Iterator[UserRepository]:
        users = DjangoUserRepository()
        committing = False
        try:
            with transaction.atomic():
                yield users
                committing = True
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, postgres.DeadlockDetected | postgres.SerializationFailure):
                raise ConcurrentUpdate from error
            if not (committing and _was_committed(users.told)):
                raise
        if users.saved:
            views = [view_of(user) for user in users.saved]
            transaction.on_commit(lambda: self._after_commit(views), robust=True)


def _was_committed(told: Sequence[UserEvent]) -> bool:
    """After a connection broke during COMMIT, which is neither success nor failure: whether the outbox
    holds what we have told. Raises the database's own error while PostgreSQL cannot be asked."""
    connection.close()
    committed = bool(told) and outbox.holds(told[0].event_id)
    log.warning("commit_interrupted", committed=committed)
    return committed
