"""djoser on gunicorn, fastapi-users on uvicorn and better-auth on Node: each a project in a folder beside
this file, installed into `.local/bench/`, with a database of its own on the common PostgreSQL."""

import filecmp
import secrets
import shutil
import sys
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import orjson
import psycopg

from benchmarks import report
from benchmarks.load import Request, answer
from benchmarks.rig import BUILT, base_environment, program, run
from benchmarks.subjects import BCRYPT_COST, PASSWORD, Service, bearer

SOURCES = Path(__file__).parent


class Peer(Service):
    """Reads PostgreSQL for each request: none has a cache. Limits off, a log line for each request."""

    folder: str
    about: str
    """Server and settings, for the table."""

    @property
    def source(self) -> Path:
        return SOURCES / self.folder

    @property
    def home(self) -> Path:
        """Where it is installed."""
        return BUILT / self.folder

    def install(self) -> None:
        raise NotImplementedError

    def versions(self) -> str:
        raise NotImplementedError

    @cached_property
    def database_url(self) -> str:
        """Of a fresh database."""
        with psycopg.connect(self.rig.postgres.url, autocommit=True) as database:
            database.execute(f"CREATE DATABASE {self.folder}")
        return urlunsplit(urlsplit(self.rig.postgres.url)._replace(path=f"/{self.folder}"))

    @cached_property
    def environment(self) -> dict[str, str]:
        return base_environment() | {
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": secrets.token_urlsafe(64),
            "BCRYPT_COST": str(BCRYPT_COST),
            "PORT": str(self.port),
        }


class PythonPeer(Peer):
    packages: tuple[str, ...]

    @property
    def python(self) -> str:
        return str(self.home / "bin" / "python")

    def install(self) -> None:
        """Into a virtual environment, which is made anew when the requirements have changed."""
        wanted, installed = self.source / "requirements.txt", self.home / "requirements.txt"
        if installed.exists() and filecmp.cmp(wanted, installed, shallow=False):
            return
        shutil.rmtree(self.home, ignore_errors=True)
        run([sys.executable, "-m", "venv", self.home])
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--require-hashes", "-r", wanted])
        shutil.copy(wanted, installed)

    def versions(self) -> str:
        show = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
        found = report.said_by(self.python, "-c", show, *self.packages).split()
        return ", ".join(f"{name} {each}" for name, each in zip(self.packages, found, strict=True))


class Djoser(PythonPeer):
    name = "djoser"
    folder = "djoser"
    packages = ("djoser", "Django", "gunicorn")

    @property
    def _workers(self) -> int:
        """As gunicorn's documents have it."""
        return 2 * self.rig.cores.workers + 1

    @property
    def about(self) -> str:  # type: ignore[override]
        return f"gunicorn, gthread, {self._workers} workers of 4 threads, connections to PostgreSQL kept"

    def launch(self) -> None:
        environment = self.environment | {"DJANGO_SETTINGS_MODULE": "settings"}
        run([self.python, "-m", "django", "migrate"], environment, folder=self.source)
        gunicorn = [self.python, "-m", "gunicorn", "django.core.wsgi:get_wsgi_application()"]
        options = ["--bind", f"127.0.0.1:{self.port}", "--worker-class", "gthread", "--threads", "4"]
        options += ["--workers", str(self._workers), "--access-logfile", "-"]
        ready = f"{self.url}/auth/users/me/"
        self.rig.serve(self.name, [*gunicorn, *options], environment, ready=ready, folder=self.source)

    def registration(self, email: str) -> Request:
        body = {"email": email, "username": email, "password": PASSWORD}
        return Request("POST", "/auth/users/", body)

    def login(self, email: str) -> Request:
        return Request("POST", "/auth/jwt/create/", {"username": email, "password": PASSWORD})

    def myself(self) -> tuple[str, str]:
        return "/auth/users/me/", bearer(answer(self.url, self.login(self.people[0]))["access"])


class FastapiUsers(PythonPeer):
    name = "fastapi-users"
    folder = "fastapi_users"
    packages = ("fastapi-users", "fastapi", "uvicorn", "SQLAlchemy", "asyncpg")
    about = "uvicorn with uvloop and httptools, bcrypt in place of its argon2"

    def launch(self) -> None:
        uvicorn = [self.python, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(self.port)]
        options = ["--workers", str(self.rig.cores.workers)]
        ready = f"{self.url}/users/me"
        self.rig.serve(self.name, [*uvicorn, *options], self.environment, ready=ready, folder=self.source)

    def registration(self, email: str) -> Request:
        return Request("POST", "/auth/register", {"email": email, "password": PASSWORD})

    def login(self, email: str) -> Request:
        return Request("POST", "/auth/jwt/login", {"username": email, "password": PASSWORD}, form=True)

    def myself(self) -> tuple[str, str]:
        return "/users/me", bearer(answer(self.url, self.login(self.people[0]))["access_token"])


class BetterAuth(Peer):
    name = "better-auth"
    folder = "better_auth"
    about = "node:http, one process, bcrypt in place of its scrypt; a session looked up by its cookie"

    def install(self) -> None:
        """Anew when its package.json has changed. No scripts of packages run: what it needs comes built.

        Only package.json pins, and not by hash: npm's lock file names the addresses of a registry.
        `--omit-lockfile-registry-resolved`, untried here, should leave those out and the hashes in."""
        wanted, installed = self.source / "package.json", self.home / "installed.json"
        if not (installed.exists() and filecmp.cmp(wanted, installed, shallow=False)):
            shutil.rmtree(self.home, ignore_errors=True)
            self.home.mkdir(parents=True)
            shutil.copy(wanted, self.home)
            quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
            run([program("npm"), "install", *quiet], folder=self.home)
            shutil.copy(wanted, installed)
        shutil.copy(self.source / "server.js", self.home)  # modules are looked for beside it

    def versions(self) -> str:
        wanted = orjson.loads((self.source / "package.json").read_bytes())["dependencies"]
        node = report.said_by(program("node"), "--version").removeprefix("v")
        return ", ".join(f"{name} {version}" for name, version in (wanted | {"Node": node}).items())

    def launch(self) -> None:
        command = [program("node"), "server.js"]
        environment = self.environment | {"NODE_ENV": "production"}
        ready = f"{self.url}/api/auth/ok"
        self.rig.serve(self.name, command, environment, ready=ready, folder=self.home)

    def registration(self, email: str) -> Request:
        body = {"email": email, "name": "Some Body", "password": PASSWORD}
        return Request("POST", "/api/auth/sign-up/email", body)

    def login(self, email: str) -> Request:
        return Request("POST", "/api/auth/sign-in/email", {"email": email, "password": PASSWORD})

    def myself(self) -> tuple[str, str]:
        cookie = answer(self.url, self.login(self.people[0])).headers["Set-Cookie"].partition(";")[0]
        return "/api/auth/get-session", f"Cookie: {cookie}"


PEERS: tuple[type[Peer], ...] = (Djoser, FastapiUsers, BetterAuth)
