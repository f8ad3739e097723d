"""The service's settings, but with a minute for PostgreSQL and Redis to answer: on a busy machine they may be
slow for a while, and are not away. How long the service waits for them in life counts where a test freezes
them (tests/fragile.py)."""

from copy import deepcopy

from config import settings as own
from config.settings import *  # noqa: F403

SECONDS = 60

DATABASES = deepcopy(own.DATABASES)
_options = DATABASES["default"]["OPTIONS"]
_options["connect_timeout"] = SECONDS
for _name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
    _options["options"] += f" -c {_name}={SECONDS * 1000}"
if "pool" in _options:
    _options["pool"]["timeout"] = SECONDS

CACHES = deepcopy(own.CACHES)
for _cache in CACHES.values():
    _cache["OPTIONS"] |= {"SOCKET_CONNECT_TIMEOUT": SECONDS, "SOCKET_TIMEOUT": SECONDS}
