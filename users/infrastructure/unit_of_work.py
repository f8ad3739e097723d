"""One transaction for a user's row and his events; then, after commit, the cache and the relay."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg import errors as postgres

from users.application.representation import UserView, view_of
from users.infrastructure import outbox
from users.infrastructure.repository import DjangoUserRepository
from users_domain.errors import ConcurrentUpdate
from users_domain.repository import UserRepository

AfterCommit = Callable[[Sequence[UserView]], None]
"""What follows a commit, told of the users that it saved."""


class DjangoUnitOfWork:
    """Called, it opens a unit of work. `after_commit` receives what was saved; it cannot fail a command."""

    def __init__(self, after_commit: AfterCommit) -> None:
        self._after_commit = after_commit

    def __call__(self) -> AbstractContextManager[UserRepository]:
        return self._work(begun=True)

    def alone(self) -> AbstractContextManager[UserRepository]:
        """The one statement that saves is the transaction, without BEGIN and COMMIT. Whoever locks rows
        before begins one there; what he has read until then, the save compares and swaps."""
        return self._work(begun=connection.in_atomic_block)

    @contextmanager
    def _work(self, *, begun: bool) -> Iterator[UserRepository]:
        committing = False
        try:
            with ExitStack() as transactions:

                def begin() -> None:
                    if not connection.in_atomic_block:
                        transactions.enter_context(transaction.atomic())

                if begun:
                    transactions.enter_context(transaction.atomic())
                users = DjangoUserRepository(begin)
                yield users
                committing = True
        except (OperationalError, InterfaceError) as error:
            if isinstance(error.__cause__, postgres.DeadlockDetected | postgres.SerializationFailure):
                raise ConcurrentUpdate from error
            if not (committing and outbox.was_committed(users.told)):
                raise
        if users.saved:
            views = [view_of(user) for user in users.saved]
            transaction.on_commit(lambda: self._after_commit(views), robust=True)
