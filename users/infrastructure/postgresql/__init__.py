"""Django's PostgreSQL, but for one thing: whether a connection is alive is asked of the socket."""
