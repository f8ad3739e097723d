"""These tests need Django and real servers; unit tests load neither."""

from tests.browser import boss, browser  # noqa: F401
from tests.fixtures import *  # noqa: F403
from tests.fragile import *  # noqa: F403
from tests.smtp_server import smtp  # noqa: F401
