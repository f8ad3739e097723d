"""Numbers from the environment. A variable that is empty counts as one that is not there."""

import math

import environ
from django.core.exceptions import ImproperlyConfigured

from config import threads

_env = environ.Env()


def positive(name: str, default: int, *, least: int = 1, most: int | None = None) -> int:
    """A whole number that makes sense; with a smaller one nobody could log in."""
    said: str = _env.str(name, default="") or str(default)
    try:
        number = int(said)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ImproperlyConfigured(f"{name} is a whole number, {limits}, not {said!r}.")
    return number


def seconds(name: str, default: float) -> float:
    """A time to wait: none at all, or some that ends."""
    said: str = _env.str(name, default="") or str(default)
    try:
        number = float(said)
    except ValueError:
        number = -1
    if not 0 <= number < math.inf:
        raise ImproperlyConfigured(f"{name} is a number of seconds, at least 0, not {said!r}.")
    return number


def web_workers() -> int:
    return positive("WEB_WORKERS", threads.default_workers())


def web_threads() -> int:
    return positive("WEB_THREADS", threads.DEFAULT_THREADS)
