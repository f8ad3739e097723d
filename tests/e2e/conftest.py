"""These tests need Django and real servers; unit tests load neither."""

from collections.abc import Iterator

import pytest
from django.core.cache import caches

from tests.browser import boss  # noqa: F401
from tests.e2e.served import production, served  # noqa: F401
from tests.fixtures import *  # noqa: F403
from users import wiring


@pytest.fixture
def broken(database: None) -> Iterator[pytest.MonkeyPatch]:
    """For breaking what sweeping the database out afterwards needs whole again."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def no_redis(broken: pytest.MonkeyPatch) -> Iterator[None]:
    """Redis is nowhere."""
    for alias in caches.settings:
        broken.setitem(caches.settings[alias], "LOCATION", "redis://127.0.0.1:1/0")
        caches[alias] = caches.create_connection(alias)
    broken.setattr(wiring, "_service", None)
    yield
    broken.undo()  # now, as the connections made anew below shall lead to the real one
    for alias in caches.settings:
        caches[alias] = caches.create_connection(alias)
