"""Settings: one module, driven by the environment (README lists every variable).

`DJANGO_ENV` is `development` (the default: generated secrets, servers found through
`<LOCAL_DIR>/servers.json`) or `production` (refuses to start without its secrets and addresses)."""

import json
import re
import secrets
from pathlib import Path
from typing import Any

import environ
import structlog
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import numbers, threads
from config.numbers import positive
from users.application.limits import Policy
from users.infrastructure.made_once import made_once
from users.infrastructure.passwords.breaches import BreachSet, NotABreachSet

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DJANGO_ENV: str = env.str("DJANGO_ENV", default="development")
if DJANGO_ENV not in {"development", "production"}:
    raise ImproperlyConfigured(f"DJANGO_ENV is 'development' or 'production', not {DJANGO_ENV!r}.")
PRODUCTION = DJANGO_ENV == "production"
LOCAL_DIR = Path(env.str("LOCAL_DIR", default=str(BASE_DIR / ".local")))


def required(name: str) -> str:
    """The variable's value; in production it has to be there."""
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"{name} must be set when DJANGO_ENV=production.")
    return value


def words(name: str) -> list[str]:
    """A list, comma separated, with or without spaces."""
    return [word.strip() for word in env.str(name, default="").split(",") if word.strip()]


def generated_secret(name: str) -> str:
    """A secret for development, kept under LOCAL_DIR."""
    return made_once(LOCAL_DIR / name, lambda: secrets.token_urlsafe(50).encode()).decode()


def server_address(variable: str, entry: str) -> str:
    """Where PostgreSQL or Redis is: from the environment, else (development) where `make run` put it."""
    if value := env.str(variable, default=""):
        return str(value)
    if PRODUCTION:
        return required(variable)
    try:
        return str(json.loads((LOCAL_DIR / "servers.json").read_text())[entry])
    except (OSError, ValueError, KeyError):
        # Commands that need no server (schema, checks) work without one; the others say what is missing.
        return {"database_url": "postgres://127.0.0.1:1/users", "redis_url": "redis://127.0.0.1:1/0"}[entry]


DEBUG = False
SECRET_KEY = required("SECRET_KEY") if PRODUCTION else generated_secret("secret_key")
SECRET_KEY_FALLBACKS = words("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = words("ALLOWED_HOSTS")
if not ALLOWED_HOSTS:
    ALLOWED_HOSTS = (
        [required("ALLOWED_HOSTS")] if PRODUCTION else ["localhost", ".localhost", "127.0.0.1", "[::1]"]
    )

# --- Applications -----------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
    "corsheaders",
    "django_prometheus",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "users",
]
if not PRODUCTION:
    INSTALLED_APPS.append("django_migration_linter")

# The API pays only for what it needs: sessions, CSRF and messages run for the admin pages alone.
MIDDLEWARE = [
    "users.api.middleware.RequestMiddleware",
    "users.api.headers.ContentPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "users.api.middleware.OriginMiddleware",
    "users.api.middleware.GateMiddleware",
    "users.api.middleware.PageSessionMiddleware",
    "users.api.middleware.PageCsrfMiddleware",
    "users.api.middleware.PageAuthenticationMiddleware",
    "users.api.middleware.PageMessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "users.api.middleware.ViewMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
WEB_WORKERS = numbers.web_workers()
WEB_THREADS = numbers.web_threads()
# What feed waits and hashes never hold of them, see users.E008.
FREE_THREADS = threads.left_free(WEB_THREADS)
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(LOCAL_DIR / "static")))
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = False

# --- PostgreSQL: the only truth ----------------------------------------------------------------

DATABASE_URL = server_address("DATABASE_URL", "database_url")
DATABASE_POOL_SIZE = positive("DATABASE_POOL_SIZE", 0, least=0)
DATABASE_PREPARE: bool = env.bool("DATABASE_PREPARE", default=True)
DATABASES: dict[str, dict[str, Any]] = {"default": env.db_url_config(DATABASE_URL)}
DATABASES["default"] |= {
    "ENGINE": "users.infrastructure.postgresql",
    # A connection a thread, kept and checked: back 20 ms after PostgreSQL is. Or a pool, by setting.
    "CONN_MAX_AGE": 0 if DATABASE_POOL_SIZE else None,
    "CONN_HEALTH_CHECKS": True,
}
DATABASES["default"].setdefault("OPTIONS", {}).update(
    {
        "connect_timeout": 2,
        "application_name": "user-service",
        # A network that swallows packets is noticed within seconds, not after a quarter of an hour.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10000,
        # For the statements of users.infrastructure.prepared alone: Django's cursors bind in the client.
        "prepare_threshold": 0 if DATABASE_PREPARE else None,
        "options": " ".join(
            f"-c {setting}={milliseconds}"
            for setting, milliseconds in {
                "statement_timeout": env.int("DATABASE_STATEMENT_TIMEOUT_MS", default=5000),
                "lock_timeout": env.int("DATABASE_LOCK_TIMEOUT_MS", default=3000),
                "idle_in_transaction_session_timeout": 10000,
                # What waits for a lock ends with the process that asked for it.
                "client_connection_check_interval": 250,
            }.items()
        ),
    }
    | ({"pool": {"min_size": 1, "max_size": DATABASE_POOL_SIZE, "timeout": 2}} if DATABASE_POOL_SIZE else {})
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: cache and event transport -----------------------------------------------------------

REDIS_URL = server_address("REDIS_URL", "redis_url")


def redis_client(timeout_seconds: float) -> dict[str, Any]:
    """A django-redis cache entry. redis-py's default of ten retries makes a dead Redis cost seconds a
    call, and sends any command again, also one that must not be; we do so once, by `RedisLink.own` alone,
    with those that may."""
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {
            "CONNECTION_FACTORY": "users.infrastructure.redis_link.PoolByTimeout",
            "SOCKET_CONNECT_TIMEOUT": timeout_seconds,
            "SOCKET_TIMEOUT": timeout_seconds,
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0), "max_connections": 256},
        },
    }


CACHES = {"default": redis_client(0.2), "events": redis_client(2)}
CACHE_TTL_SECONDS: int = env.int("CACHE_TTL_SECONDS", default=3600)

EVENT_STREAM = "users.events"
EVENT_STREAM_MAXLEN: int = env.int("EVENT_STREAM_MAXLEN", default=1_000_000)
EVENT_SOURCE: str = env.str("EVENT_SOURCE", default="user-service")
FEED_WAITS = positive("FEED_WAITS", threads.default_feed_waits(WEB_THREADS), least=0)
IDEMPOTENCY_HOURS = 24

# --- Webhooks -----------------------------------------------------------------------------------

WEBHOOK_PRIVATE_ADDRESSES: bool = env.bool("WEBHOOK_PRIVATE_ADDRESSES", default=not PRODUCTION)
WEBHOOK_TIMEOUT_SECONDS: float = env.float("WEBHOOK_TIMEOUT_SECONDS", default=5)
WEBHOOK_RETRY_HOURS: float = env.float("WEBHOOK_RETRY_HOURS", default=72)
WEBHOOK_LOG_DAYS: int = env.int("WEBHOOK_LOG_DAYS", default=30)

# --- Accounts ------------------------------------------------------------------------------------

AUTH_USER_MODEL = "users.UserRecord"
AUTHENTICATION_BACKENDS = ["users.api.staff_login.StaffBackend"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
# Ours alone: what accounts bring from elsewhere is read by users.infrastructure.passwords.stored.
PASSWORD_HASHERS = ["users.infrastructure.passwords.hashing.BcryptHasher"]
BCRYPT_COST: int = env.int("BCRYPT_COST", default=12)
_places = threads.default_hashing(WEB_THREADS, WEB_WORKERS, feed_waits=FEED_WAITS)
HASHING_CONCURRENCY = positive("HASHING_CONCURRENCY", _places)
_queue = threads.default_queue(WEB_THREADS, feed_waits=FEED_WAITS, hashing=HASHING_CONCURRENCY)
HASHING_QUEUE = positive("HASHING_QUEUE", _queue, least=0)
HASHING_WAIT_SECONDS = numbers.seconds("HASHING_WAIT_SECONDS", 30)
HASHING_NICENESS = positive("HASHING_NICENESS", 5, least=0, most=19)
PASSWORD_CONTEXT_WORDS = words("PASSWORD_CONTEXT_WORDS")
BREACHED_PASSWORDS_FILE: str = env.str("BREACHED_PASSWORDS_FILE", default="")
if BREACHED_PASSWORDS_FILE:
    try:
        BreachSet(BREACHED_PASSWORDS_FILE).close()
    except (OSError, NotABreachSet) as error:
        raise ImproperlyConfigured(f"BREACHED_PASSWORDS_FILE: {error}") from error

REGISTRATION: str = env.str("REGISTRATION", default="open")
if REGISTRATION not in {"open", "closed"}:
    raise ImproperlyConfigured(f"REGISTRATION is 'open' or 'closed', not {REGISTRATION!r}.")
REGISTRATION_DISCLOSURE: str = env.str("REGISTRATION_DISCLOSURE", default="conflict")
if REGISTRATION_DISCLOSURE not in {"conflict", "accepted"}:
    raise ImproperlyConfigured(
        f"REGISTRATION_DISCLOSURE is 'conflict' or 'accepted', not {REGISTRATION_DISCLOSURE!r}."
    )
REQUIRE_IF_MATCH: bool = env.bool("REQUIRE_IF_MATCH", default=False)

# --- Mail ------------------------------------------------------------------------------------------

DEFAULT_LOCALE: str = env.str("DEFAULT_LOCALE", default="en")
if DEFAULT_LOCALE not in {"en", "ru"}:
    raise ImproperlyConfigured(f"DEFAULT_LOCALE is 'en' or 'ru', not {DEFAULT_LOCALE!r}.")
ACCOUNT_PAGES: bool = env.bool("ACCOUNT_PAGES", default=True)

EMAIL_URL: str = env.str("EMAIL_URL", default="")
MAIL_CONFIGURED = bool(EMAIL_URL) or not PRODUCTION
EMAIL_CHANGE: str = env.str("EMAIL_CHANGE", default="verified" if EMAIL_URL else "immediate")
if EMAIL_CHANGE not in {"verified", "immediate"}:
    raise ImproperlyConfigured(f"EMAIL_CHANGE is 'verified' or 'immediate', not {EMAIL_CHANGE!r}.")
if EMAIL_CHANGE == "verified" and not MAIL_CONFIGURED:
    raise ImproperlyConfigured("EMAIL_URL must be set where EMAIL_CHANGE is 'verified'.")
MAIL_SERVICE_NAME: str = env.str("MAIL_SERVICE_NAME", default="User service")
MAIL_RETRY_HOURS: float = env.float("MAIL_RETRY_HOURS", default=24)
EMAIL_TIMEOUT = 10
_mail_server: dict[str, Any] = (
    env.email_url_config(EMAIL_URL)
    if EMAIL_URL
    else {
        "EMAIL_BACKEND": "users.infrastructure.mail.folder.MailFolder",
        "EMAIL_FILE_PATH": str(LOCAL_DIR / "mails"),
    }
)
EMAIL_BACKEND = _mail_server["EMAIL_BACKEND"]
if PRODUCTION and EMAIL_BACKEND.endswith(".console.EmailBackend"):
    raise ImproperlyConfigured("EMAIL_URL=consolemail: would write addresses and links into the log.")
EMAIL_FILE_PATH = _mail_server["EMAIL_FILE_PATH"] or None
EMAIL_USE_TLS = bool(_mail_server.get("EMAIL_USE_TLS"))
EMAIL_USE_SSL = bool(_mail_server.get("EMAIL_USE_SSL"))
EMAIL_HOST = _mail_server.get("EMAIL_HOST") or "localhost"
EMAIL_PORT = _mail_server.get("EMAIL_PORT") or (587 if EMAIL_USE_TLS else 465 if EMAIL_USE_SSL else 25)
EMAIL_HOST_USER = _mail_server.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _mail_server.get("EMAIL_HOST_PASSWORD") or ""


def mail_setting(name: str, default: str) -> str:
    """Where mails are sent in production, it has to be said."""
    value: str = env.str(name, default="") or ("" if PRODUCTION and EMAIL_URL else default)
    if not value:
        raise ImproperlyConfigured(f"{name} must be set where EMAIL_URL is.")
    return value


MAIL_FROM = DEFAULT_FROM_EMAIL = SERVER_EMAIL = mail_setting("MAIL_FROM", "User service <no-reply@localhost>")
if not re.fullmatch(r"(?:[^<>\r\n]*<[^<>@\s]+@[^<>@\s]+>|[^<>@\s]+@[^<>@\s]+)", MAIL_FROM):
    raise ImproperlyConfigured(f"MAIL_FROM is an address, or a name and an <address>, not {MAIL_FROM!r}.")
PUBLIC_URL = mail_setting("PUBLIC_URL", f"http://127.0.0.1:{env.str('PORT', default='8000')}").rstrip("/")
if not re.fullmatch(r"https?://[^\s/?#@]+", PUBLIC_URL):
    raise ImproperlyConfigured(f"PUBLIC_URL is like https://users.example.com, not {PUBLIC_URL!r}.")


def mail_link(name: str, page: str) -> str:
    """Where a link leads. To our own page the token goes as fragment, which browsers send nobody."""
    if not ACCOUNT_PAGES and PRODUCTION and EMAIL_URL and not env.str(name, default=""):
        raise ImproperlyConfigured(f"{name} must be set where EMAIL_URL is and ACCOUNT_PAGES is off.")
    link: str = env.str(name, default="") or (f"{PUBLIC_URL}/account/{page}?lang={{locale}}#token={{token}}")
    if "{token}" not in link or not link.startswith(("https://", "http://")):
        raise ImproperlyConfigured(f"{name} is an address with {{token}} in it, not {link!r}.")
    return link


MAIL_LINKS = {
    "reset_password": mail_link("MAIL_LINK_RESET", "reset-password"),
    "verify_email": mail_link("MAIL_LINK_VERIFY", "verify-email"),
    "confirm_email_change": mail_link("MAIL_LINK_EMAIL_CHANGE", "email-change"),
    "cancel_email_change": mail_link("MAIL_LINK_CANCEL_EMAIL_CHANGE", "email-change/cancel"),
}

# --- Tokens ----------------------------------------------------------------------------------------

JWT_ISSUER: str = env.str("JWT_ISSUER", default="user-service")
JWT_AUDIENCE: str = env.str("JWT_AUDIENCE", default="services")
# Where the signing keys come from: one of three.
JWT_SIGNING_KEYS: str = env.str("JWT_SIGNING_KEYS", default="").replace("\\n", "\n")
JWT_SIGNING_KEY_FILE: str = env.str("JWT_SIGNING_KEY_FILE", default="")
JWT_KEYS_DIR: str = env.str("JWT_KEYS_DIR", default="")
match [bool(JWT_SIGNING_KEYS), bool(JWT_SIGNING_KEY_FILE), bool(JWT_KEYS_DIR)].count(True):
    case 0 if PRODUCTION:
        required("JWT_SIGNING_KEY_FILE")
    case 0:
        JWT_KEYS_DIR = str(LOCAL_DIR / "keys")
    case 2 | 3:
        raise ImproperlyConfigured(
            "Only one of JWT_SIGNING_KEYS, JWT_SIGNING_KEY_FILE and JWT_KEYS_DIR may be set."
        )
for missing in [name for name in words("JWT_SIGNING_KEY_FILE") if not Path(name).is_file()]:
    raise ImproperlyConfigured(f"JWT_SIGNING_KEY_FILE names {missing}, where there is no file.")
if PRODUCTION and JWT_KEYS_DIR and not Path(JWT_KEYS_DIR).is_dir():
    raise ImproperlyConfigured(f"JWT_KEYS_DIR names {JWT_KEYS_DIR}, where there is no folder.")
ACCESS_TOKEN_SECONDS: int = positive("ACCESS_TOKEN_SECONDS", 300)
# In each process; one takes about 2 KB.
VERIFIED_TOKENS: int = positive("VERIFIED_TOKENS", 10_000, least=0)
# NIST SP 800-63B: whoever is remembered logs in anew every 30 days.
SESSION_SECONDS: int = positive("SESSION_SECONDS", 30 * 86_400)
SESSION_IDLE_SECONDS: int = positive("SESSION_IDLE_SECONDS", 14 * 86_400)
SESSIONS_PER_USER: int = positive("SESSIONS_PER_USER", 100)
REFRESH_GRACE_SECONDS: int = positive("REFRESH_GRACE_SECONDS", 10, least=0)

# --- Limits ----------------------------------------------------------------------------------------


def rate_limit(variable: str, default: str) -> Policy | None:
    """The limit, by the name of the variable; None for one that is off."""
    rule: str = env.str(variable, default=default)
    try:
        return Policy.parse(variable.removeprefix("RATE_LIMIT_").lower(), rule)
    except ValueError as error:
        raise ImproperlyConfigured(f"{variable}: {error}.") from None


def proxy_count() -> int | None:
    """None where production does not say: nothing is believed then, and no role starts."""
    count: str = env.str("TRUSTED_PROXIES", default="" if PRODUCTION else "0")
    if count and not (count.isdecimal() and count.isascii() and int(count) < 100):
        raise ImproperlyConfigured(f"TRUSTED_PROXIES is a number of proxies, 0 for none, not {count!r}.")
    return int(count) if count else None


TRUSTED_PROXIES = proxy_count()
_RATE_LIMITS: str = env.str("RATE_LIMITS", default="on").lower()
if _RATE_LIMITS not in {"on", "off"}:
    raise ImproperlyConfigured(f"RATE_LIMITS is 'on' or 'off', not {_RATE_LIMITS!r}.")
RATE_LIMITS = _RATE_LIMITS == "on"
RATE_LIMIT_POLICIES: dict[str, Policy | None] = {
    "login": rate_limit("RATE_LIMIT_LOGIN", "10/15m"),
    "login_address": rate_limit("RATE_LIMIT_LOGIN_ADDRESS", "300/15m"),
    "login_account": rate_limit("RATE_LIMIT_LOGIN_ACCOUNT", "100/1h"),
    "password_proof": rate_limit("RATE_LIMIT_PASSWORD_PROOF", "10/15m"),
    "export": rate_limit("RATE_LIMIT_EXPORT", "10/1h"),
    "registration": rate_limit("RATE_LIMIT_REGISTRATION", "100/1h"),
    "registration_email": rate_limit("RATE_LIMIT_REGISTRATION_EMAIL", "5/1h"),
    "email_change": rate_limit("RATE_LIMIT_EMAIL_CHANGE", "5/1h"),
    "reset": rate_limit("RATE_LIMIT_RESET", "5/1h"),
    "reset_address": rate_limit("RATE_LIMIT_RESET_ADDRESS", "30/1h"),
    "verification": rate_limit("RATE_LIMIT_VERIFICATION", "5/1h"),
    "verification_address": rate_limit("RATE_LIMIT_VERIFICATION_ADDRESS", "30/1h"),
    "refresh": rate_limit("RATE_LIMIT_REFRESH", "60/1m"),
    "caller": rate_limit("RATE_LIMIT_CALLER", "30000/1m"),
}

# --- HTTP ------------------------------------------------------------------------------------------

API_DOCS: bool = env.bool("API_DOCS", default=not PRODUCTION)
BROWSABLE_API = not PRODUCTION
FAST_READS: bool = env.bool("FAST_READS", default=True)
MAX_BODY_BYTES = 64 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
DRAIN_FILE: str = env.str("DRAIN_FILE", default="")

CORS_ALLOWED_ORIGINS = words("CORS_ALLOWED_ORIGINS")
CORS_ALLOW_CREDENTIALS = False
CORS_EXPOSE_HEADERS = ["ETag", "Location", "Retry-After", "X-Request-ID"]
CORS_ALLOW_HEADERS = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "x-request-id",
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["users.api.authentication.TokenAuthentication"]
    + (["users.api.authentication.AdminSessionAuthentication"] if BROWSABLE_API else []),
    "DEFAULT_PERMISSION_CLASSES": ["users.api.permissions.MayCall"],
    "DEFAULT_PARSER_CLASSES": ["users.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["users.api.renderers.ReadyJSONRenderer"]
    + (["users.api.renderers.ReadableBrowsableAPIRenderer"] if BROWSABLE_API else []),
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "users.api.renderers.JSONUnlessBrowser",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_SCHEMA_CLASS": "users.api.schema.ProblemSchema",
    "EXCEPTION_HANDLER": "users.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "User service",
    "VERSION": "0.1.0",
    "DESCRIPTION": "Registers, looks up, blocks and authenticates users. How to use it well: docs/api.md.",
    "OAS_VERSION": "3.1.1",
    "SERVERS": [{"url": "/"}],
    "TAGS": [
        {"name": "users", "description": "Accounts: register, look up, change."},
        {"name": "privacy", "description": "Everything that is kept of a person: told to him, and erased."},
        {"name": "blocking", "description": "Shut a user out, and let him in again."},
        {"name": "events", "description": "What happened, for those who missed it on the stream."},
        {"name": "webhooks", "description": "Where events are sent, for those who read no Redis."},
        {"name": "tokens", "description": "Log in, and verify who calls."},
        {"name": "accounts", "description": "What goes by mail: new passwords, and addresses to be proven."},
        {"name": "service", "description": "About the service itself."},
    ],
    # All that the operations say stands in users.api.operations; these switch guesses and CDNs off.
    "POSTPROCESSING_HOOKS": ["users.api.schema.add_what_is_shared"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "",
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- Security of the pages --------------------------------------------------------------------------

SECURE_HTTPS: bool = env.bool("SECURE_HTTPS", default=PRODUCTION)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_HTTPS
# The prefix makes browsers refuse one that another host of the domain, or plain HTTP, has set.
_COOKIE_PREFIX = "__Host-" if SECURE_HTTPS else ""
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = f"{_COOKIE_PREFIX}sessionid", f"{_COOKIE_PREFIX}csrftoken"
CSRF_COOKIE_HTTPONLY = PRODUCTION  # elsewhere the script of /docs reads it
SESSION_COOKIE_AGE = 8 * 3600
SECURE_HSTS_SECONDS = 31_536_000 if SECURE_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HTTPS
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", default=False) else None
)
SECURE_SSL_REDIRECT = False
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = words("CSRF_TRUSTED_ORIGINS")
CSRF_FAILURE_VIEW = "users.api.errors.csrf_failure"
# W008: TLS ends at the gateway, which also redirects; health probes inside the cluster speak plain HTTP.
# W003: the check knows Django's CSRF middleware by its name only; ours is a subclass.
SILENCED_SYSTEM_CHECKS = ["security.W008", "security.W003"]

# --- Logs: one JSON object a line on stdout ---------------------------------------------------------

LOG_LEVEL: str = env.str("LOG_LEVEL", default="INFO")


def hide_row_values(_logger: object, _name: str, event: dict[str, Any]) -> dict[str, Any]:
    """PostgreSQL quotes the offending row, an address for instance, in an error's DETAIL."""
    if "exception" in event:
        event["exception"] = re.sub(r"(?m)^DETAIL:.*$", "DETAIL: (hidden)", event["exception"])
    return event


SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    hide_row_values,
]
structlog.configure(
    processors=[*SHARED_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "users.api.request_log.JsonLines",
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            "foreign_pre_chain": SHARED_PROCESSORS,
        }
    },
    "handlers": {
        "stdout": {
            "class": "users.api.request_log.Lines",
            "stream": "ext://sys.stdout",
            "formatter": "json",
        }
    },
    "root": {"handlers": ["stdout"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"level": LOG_LEVEL},
        # The request line and `internal_error` say it already, and without the raw path.
        "django.request": {"level": "CRITICAL"},
        "django.security": {"level": "CRITICAL"},
        # They tell the addresses of webhooks, which may hold a secret, and at DEBUG signatures too.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
    },
}
