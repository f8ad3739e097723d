"""Everything this service keeps, in one SQLite file, so that an effect and the position it belongs to are
committed together: after a crash both are there or neither is."""

import fcntl
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id TEXT PRIMARY KEY, email TEXT, name TEXT, status TEXT NOT NULL, user_version INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS progress (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL DEFAULT 0,
    all_in_doubt_until REAL NOT NULL DEFAULT 0,
    all_in_doubt_since INTEGER NOT NULL DEFAULT 0,
    unknown_events INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO progress (id) VALUES (1);
CREATE TABLE IF NOT EXISTS token_events (
    user_id TEXT PRIMARY KEY, refused_before REAL NOT NULL, in_doubt_until REAL NOT NULL,
    sequence INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS dead_letters (
    sequence INTEGER PRIMARY KEY, user_id TEXT, envelope TEXT NOT NULL, error TEXT NOT NULL,
    failed_at REAL NOT NULL, attempts INTEGER NOT NULL, retry_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY, user_id TEXT NOT NULL, item TEXT NOT NULL, quantity INTEGER NOT NULL,
    placed_at REAL NOT NULL
);
CREATE TEMPORARY TABLE IF NOT EXISTS rebuilt (
    id TEXT PRIMARY KEY, email TEXT, name TEXT, status TEXT NOT NULL, user_version INTEGER NOT NULL
);
"""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 3600.0


class AlreadyRunning(Exception):
    """Another process reads into this database."""


@dataclass(frozen=True, slots=True)
class User:
    """What we need of a user. An erased one has neither email nor name."""

    id: str
    email: str | None
    name: str | None
    status: str
    user_version: int


@dataclass(frozen=True, slots=True)
class TokenEvents:
    """What events say about a user's access tokens, by their time of issue: those before `refused_before`
    are worthless; those up to `in_doubt_until` may be. `sequence` tells one state of it from the next."""

    refused_before: float
    in_doubt_until: float
    sequence: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`envelope` is what came, as text; it may be anything."""

    sequence: int
    user_id: str | None
    envelope: str
    error: str
    attempts: int


class Store:
    """One connection for all threads, one at a time: what is done under the lock takes microseconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._sql.execute("PRAGMA journal_mode = WAL")
        # A power cut may take the last transactions back, effect and position alike; the feed has them.
        self._sql.execute("PRAGMA synchronous = NORMAL")
        # What is forgotten is overwritten, too: of an erased user nothing stays in the file's free pages.
        self._sql.execute("PRAGMA secure_delete = ON")
        self._sql.executescript(SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._sql.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    @contextmanager
    def only_reader(self) -> Iterator[None]:
        """One process reads the stream into this file, which keeps the order; the lock ends with its holder,
        however that ends. Raises AlreadyRunning."""
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(f"another process reads into {self.path}") from None
            yield

    # --- how far we have come ---

    def position(self) -> int:
        return int(self._one("SELECT sequence FROM progress")[0])

    def move_to(self, sequence: int) -> None:
        self._run("UPDATE progress SET sequence = ?", sequence)

    def count_unknown(self) -> None:
        self._run("UPDATE progress SET unknown_events = unknown_events + 1")

    def counts(self) -> dict[str, int]:
        names = ("users", "unknown_events", "dead_letters", "orders")
        row = self._one(
            "SELECT (SELECT count(*) FROM users), unknown_events, (SELECT count(*) FROM dead_letters), "
            "(SELECT count(*) FROM orders) FROM progress"
        )
        return dict(zip(names, row, strict=True))

    # --- the copy of the users ---

    def user(self, user_id: str) -> User | None:
        row = self._one("SELECT id, email, name, status, user_version FROM users WHERE id = ?", user_id)
        return User(*row) if row else None

    def put_user(self, user: User) -> None:
        self._run(
            "INSERT OR REPLACE INTO users (id, email, name, status, user_version) VALUES (?, ?, ?, ?, ?)",
            user.id,
            user.email,
            user.name,
            user.status,
            user.user_version,
        )

    def replace_users(self, users: Iterable[User], *, position: int, in_doubt_until: float) -> None:
        """Another copy instead of this one, at another position, all at once, however long `users` take to
        come. It needs no dead letters; of tokens it says nothing, so all are in doubt."""
        self._run("DELETE FROM rebuilt")
        for user in users:
            fields = (user.id, user.email, user.name, user.status, user.user_version)
            self._run("INSERT OR REPLACE INTO rebuilt VALUES (?, ?, ?, ?, ?)", *fields)
        with self.transaction():
            self._run("DELETE FROM users")
            self._run("INSERT INTO users SELECT * FROM rebuilt")
            self._run("DELETE FROM dead_letters")
            self.move_to(position)
            self.doubt_all_tokens(in_doubt_until)
        self._run("DELETE FROM rebuilt")

    # --- what events say about tokens ---

    def token_events(self, user_id: str) -> TokenEvents:
        """Also those that concern everybody."""
        row = self._one(
            """
            SELECT coalesce(own.refused_before, 0),
                max(coalesce(own.in_doubt_until, 0), all_in_doubt_until),
                max(coalesce(own.sequence, 0), all_in_doubt_since)
            FROM progress LEFT JOIN token_events AS own ON own.user_id = ?
            """,
            user_id,
        )
        return TokenEvents(*row)

    def note_token_event(
        self, user_id: str, *, refused_before: float, in_doubt_until: float, sequence: int
    ) -> None:
        self._run(
            """
            INSERT INTO token_events VALUES (?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET
                refused_before = max(refused_before, excluded.refused_before),
                in_doubt_until = max(in_doubt_until, excluded.in_doubt_until),
                sequence = max(sequence, excluded.sequence)
            """,
            user_id,
            refused_before,
            in_doubt_until,
            sequence,
        )

    def doubt_all_tokens(self, until: float) -> None:
        """Every token issued up to then."""
        self._run("UPDATE progress SET all_in_doubt_until = ?, all_in_doubt_since = sequence", until)

    def forget_token_events(self, *, in_doubt_until: float) -> None:
        """Those that say nothing about tokens issued later; the others have expired."""
        self._run("DELETE FROM token_events WHERE in_doubt_until < ?", in_doubt_until)

    # --- dead letters ---

    def bury(self, sequence: int, user_id: str | None, envelope: str, error: str, *, now: float) -> None:
        self._run(
            "INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, 0, ?)",
            sequence,
            user_id,
            envelope,
            error,
            now,
            now + FIRST_RETRY_SECONDS,
        )

    def dead_letters(self, *, due: float, limit: int = 20) -> list[DeadLetter]:
        """Those to be tried again by then, oldest first."""
        rows = self._all(
            "SELECT sequence, user_id, envelope, error, attempts FROM dead_letters WHERE retry_at <= ? "
            "ORDER BY sequence LIMIT ?",
            due,
            limit,
        )
        return [DeadLetter(*row) for row in rows]

    def dig_up(self, sequence: int) -> None:
        self._run("DELETE FROM dead_letters WHERE sequence = ?", sequence)

    def still_dead(self, letter: DeadLetter, error: str, *, now: float) -> None:
        """Each time twice as long until the next try."""
        pause = min(FIRST_RETRY_SECONDS * 2 ** min(letter.attempts + 1, 20), LONGEST_RETRY_SECONDS)
        self._run(
            "UPDATE dead_letters SET error = ?, attempts = attempts + 1, retry_at = ? WHERE sequence = ?",
            error,
            now + pause,
            letter.sequence,
        )

    def all_dead_letters(self) -> list[DeadLetter]:
        return self.dead_letters(due=float("inf"), limit=-1)

    def hurry_dead_letters(self) -> int:
        """All are due now; answers how many that are."""
        return self._run("UPDATE dead_letters SET retry_at = 0")

    def forget_letters_about(self, user_id: str) -> None:
        """Those as well that name him somewhere in what could not be read."""
        self._run("DELETE FROM dead_letters WHERE user_id = ? OR instr(envelope, ?)", user_id, user_id)

    # --- orders ---

    def place_order(self, order_id: str, user_id: str, item: str, quantity: int, *, now: float) -> bool:
        """Whether it was placed: only for a user who is active at that moment."""
        placed = self._run(
            "INSERT INTO orders SELECT ?, id, ?, ?, ? FROM users WHERE id = ? AND status = 'active'",
            order_id,
            item,
            quantity,
            now,
            user_id,
        )
        return placed == 1

    def _run(self, statement: str, *values: Any) -> int:
        with self._lock:
            return self._sql.execute(statement, values).rowcount

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock:
            return self._sql.execute(statement, values).fetchone()

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._sql.execute(statement, values).fetchall()
