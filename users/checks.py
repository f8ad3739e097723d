"""System checks: what `manage.py check --deploy` refuses or warns of, and what no role starts with.

`DANGERS` stop `web`, `worker` and `migrate` as well; `DEPLOY` are said by `check --deploy` alone. Each is a
function of the settings, so that a test can ask one about settings of its own."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.exceptions import ImproperlyConfigured

from config import threads

SHORTEST_SECRET = 50
FEWEST_CHARACTERS = 10
"""Different ones; sixty of hexadecimal digits have about sixteen."""
LOWEST_COST = 10
LONGEST_ACCESS_SECONDS = 15 * 60
LONGEST_GRACE_SECONDS = 60
PLACEHOLDERS = re.compile(
    r"(?i)django-insecure|^(?:change|replace|your|my|the|test|dev|example|default|dummy|secret|password)[-_ ]"
)
STRANGER = "https://stranger.invalid"

Settings = Any
SettingsCheck = Callable[[Settings], Iterator[CheckMessage]]


def cross_origin(settings: Settings) -> Iterator[CheckMessage]:
    """django-cors-headers would echo any origin, with credentials."""
    if getattr(settings, "CORS_ALLOW_CREDENTIALS", False) and _any_origin(settings):
        yield Error(
            "CORS with credentials for any origin: every website may call in the name of whoever visits it.",
            hint="Name the origins in CORS_ALLOWED_ORIGINS, or leave CORS_ALLOW_CREDENTIALS off.",
            id="users.E001",
        )


def secret_keys(settings: Settings) -> Iterator[CheckMessage]:
    """They sign refresh tokens, links in mails and cursors, and seal the secrets of webhooks."""
    if not settings.PRODUCTION:
        return
    hint = 'Make one: python -c "import secrets; print(secrets.token_urlsafe(64))"'
    if fault := weakness(settings.SECRET_KEY):
        yield Error(f"SECRET_KEY {fault}.", hint=hint, id="users.E003")
    for place, key in enumerate(settings.SECRET_KEY_FALLBACKS, 1):
        if fault := weakness(key):
            yield Error(
                f"Key {place} of SECRET_KEY_FALLBACKS {fault}, and what it signed is still believed.",
                hint="Drop it: those whose tokens it signed log in again.",
                id="users.E004",
            )


def weakness(key: str) -> str | None:
    """Why nobody should trust what this key signs; never the key itself."""
    if len(key) < SHORTEST_SECRET:
        return f"has fewer than {SHORTEST_SECRET} characters"
    if len(set(key)) < FEWEST_CHARACTERS:
        return f"is made of fewer than {FEWEST_CHARACTERS} different characters"
    if PLACEHOLDERS.search(key):
        return "is a placeholder"
    return None


def debugging(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and settings.DEBUG:
        yield Error(
            "DEBUG shows settings and source to whoever causes an error.",
            hint="Leave DEBUG off in production.",
            id="users.E005",
        )


def any_host(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and any(host.strip(" .") in {"", "*"} for host in settings.ALLOWED_HOSTS):
        yield Error(
            "ALLOWED_HOSTS takes any host, and with it the addresses that a forged Host header makes.",
            hint="Name the hosts that the service is reached by.",
            id="users.E006",
        )


def proxies(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and getattr(settings, "TRUSTED_PROXIES", None) is None:
        yield Error(
            "TRUSTED_PROXIES must be set when DJANGO_ENV=production: behind a proxy that nobody counted all "
            "callers share one address, and one limit.",
            hint="The number of proxies in front that append to X-Forwarded-For; 0 for none.",
            id="users.E002",
        )


def held_threads(settings: Settings) -> Iterator[CheckMessage]:
    """Readers would wait behind those who wait by design."""
    hashing = settings.HASHING_CONCURRENCY + settings.HASHING_QUEUE
    held = settings.FEED_WAITS + hashing + settings.FREE_THREADS
    if held > settings.WEB_THREADS:
        yield Error(
            f"FEED_WAITS ({settings.FEED_WAITS}) and HASHING_CONCURRENCY with HASHING_QUEUE ({hashing}) may "
            f"hold so many of the {settings.WEB_THREADS} threads of a process that fewer than "
            f"{settings.FREE_THREADS} are left for everybody else.",
            hint=f"WEB_THREADS={fitting_threads(settings, held)}, or less of the others; left out they fit.",
            id="users.E008",
        )


def fitting_threads(settings: Settings, least: int) -> int:
    """The first number of threads that is enough. What was left out grows with them, as does what is left
    free, and nothing here says which of the settings were."""

    def held_of(number: int) -> int:
        feed_waits: int = max(settings.FEED_WAITS, threads.default_feed_waits(number))
        hashing = threads.default_hashing(number, settings.WEB_WORKERS, feed_waits=feed_waits)
        hashes: int = max(settings.HASHING_CONCURRENCY, hashing) + settings.HASHING_QUEUE
        return feed_waits + hashes + threads.left_free(number)

    return next(number for number in count(least) if held_of(number) <= number)


def cheap_hashes(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and settings.BCRYPT_COST < LOWEST_COST:
        yield Error(
            f"BCRYPT_COST is {settings.BCRYPT_COST}: stolen hashes are guessed quickly.",
            hint=f"At least {LOWEST_COST}, best 12; hashes are upgraded as people log in.",
            id="users.E007",
        )


def no_limits(settings: Settings) -> Iterator[CheckMessage]:
    policies: dict[str, object] = getattr(settings, "RATE_LIMIT_POLICIES", {})
    off = [f"RATE_LIMIT_{name.upper()}" for name, policy in policies.items() if policy is None]
    if not settings.RATE_LIMITS:
        off.insert(0, "RATE_LIMITS")
    if settings.PRODUCTION and off:
        yield Warning(
            f"Off: {', '.join(off)}. What is not limited is tried as often as the machine can.",
            hint="Leave limits on outside of development and benchmarks.",
            id="users.W001",
        )


def plain_origins(settings: Settings) -> Iterator[CheckMessage]:
    """Whoever sits on the wire may put a script into a page that came in plain text."""
    if not settings.PRODUCTION:
        return
    for name in ("CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS"):
        plain = [origin for origin in getattr(settings, name) if origin.lower().startswith("http://")]
        if plain:
            yield Warning(
                f"{name} trusts pages that come without TLS: {', '.join(plain)}.",
                hint="Serve them over https://.",
                id="users.W002",
            )


def long_lives(settings: Settings) -> Iterator[CheckMessage]:
    if settings.ACCESS_TOKEN_SECONDS > LONGEST_ACCESS_SECONDS:
        yield Warning(
            f"Access tokens live {settings.ACCESS_TOKEN_SECONDS} s. For that long services that only verify "
            "signatures believe a user who is blocked.",
            hint=f"At most {LONGEST_ACCESS_SECONDS} s; refreshing is cheap.",
            id="users.W003",
        )


def long_grace(settings: Settings) -> Iterator[CheckMessage]:
    if settings.REFRESH_GRACE_SECONDS > LONGEST_GRACE_SECONDS:
        yield Warning(
            f"A used refresh token leads to its successor for {settings.REFRESH_GRACE_SECONDS} s. For that "
            "long whoever has copied one shares the session, and nobody notices.",
            hint=f"At most {LONGEST_GRACE_SECONDS} s; ten do for two tabs and an answer that got lost.",
            id="users.W005",
        )


def private_webhooks(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and settings.WEBHOOK_PRIVATE_ADDRESSES:
        yield Warning(
            "WEBHOOK_PRIVATE_ADDRESSES lets webhooks call into the internal network, and over plain HTTP.",
            hint="Off, unless every admin may do that anyway.",
            id="users.W004",
        )


def no_mail(settings: Settings) -> Iterator[CheckMessage]:
    if settings.PRODUCTION and not getattr(settings, "EMAIL_URL", ""):
        yield Info(
            "EMAIL_URL is not set: nobody can reset a forgotten password or prove an address.",
            hint="For instance smtp+tls://user:password@mail.example.com:587",
            id="users.I001",
        )


DANGERS: tuple[SettingsCheck, ...] = (
    cross_origin,
    secret_keys,
    debugging,
    any_host,
    proxies,
    held_threads,
)
DEPLOY: tuple[SettingsCheck, ...] = (
    cheap_hashes,
    no_limits,
    plain_origins,
    long_lives,
    long_grace,
    private_webhooks,
    no_mail,
)


def refuse_dangers() -> None:
    """For whoever starts a role: commands of Django's check by themselves, servers do not."""
    if said := _said_by(DANGERS, django_settings):
        lines = [f"{message.id}: {message.msg} {message.hint}" for message in said]
        raise ImproperlyConfigured("\n".join(lines))


def register() -> None:
    """With Django, whose commands run the first group by themselves and both with `check --deploy`."""

    @checks.register(checks.Tags.security)
    def always(**_: Any) -> list[CheckMessage]:
        return _said_by(DANGERS, django_settings)

    @checks.register(checks.Tags.security, deploy=True)
    def deployed(**_: Any) -> list[CheckMessage]:
        return _said_by(DEPLOY, django_settings)


def _said_by(group: Iterable[SettingsCheck], settings: Settings) -> list[CheckMessage]:
    return [message for check in group for message in check(settings)]


def _any_origin(settings: Settings) -> bool:
    patterns = getattr(settings, "CORS_ALLOWED_ORIGIN_REGEXES", [])
    return (
        getattr(settings, "CORS_ALLOW_ALL_ORIGINS", False)
        or "*" in getattr(settings, "CORS_ALLOWED_ORIGINS", [])
        or any(re.match(pattern, STRANGER) for pattern in patterns)
    )
