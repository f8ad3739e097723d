"""An order service: the reference consumer of the user service's events. Copy it; nothing here is shared.

::

    store.py      its own SQLite: the copy of the users, how far it has come, orders, dead letters
    events.py     what an entry of the stream or the feed says
    handlers.py   what an event does to the copy, and to tokens
    consumer.py   reads the stream, catches up over the feed, dead-letters what it cannot handle
    users_api.py  the user service over HTTP
    tokens.py     verifies its access tokens without asking it
    web.py        our own HTTP
"""
