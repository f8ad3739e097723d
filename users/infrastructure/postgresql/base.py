"""The engine that settings name. Django looks for it in a module of this name."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Whether the connection still leads to a server. Django asks that before the first statement of each
        request, by a statement: one round trip in five of a command. A socket on which nothing waits is in
        order, since a server that stops says goodbye and one that was killed has its system do so; only where
        something waits, or something went wrong before, the question is put.

        A host that has vanished without a word is not found out here, but by keepalive and tcp_user_timeout
        (see the settings): who uses such a connection before waits so long, and gets the database's error."""
        return self._is_silent() or super().is_usable()

    def _is_silent(self) -> bool:
        if self.errors_occurred or self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0)
