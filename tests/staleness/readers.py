"""One process that reads users as fast as it is answered, on several connections, and looks at every answer.

`python -m tests.staleness.readers FOLDER NUMBER SEED`: appends to `suspects<NUMBER>` what is older than what
the board had said before the request was sent."""

import json
import random
import re
import select
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass

from tests.staleness.board import Board, now
from tests.staleness.cast import PASSWORD, Cast
from tests.staleness.verdict import Suspect
from tests.staleness.wire import Answer, Broken, Wire, request

CONNECTIONS = 8
PATIENCE = 10.0
"""Seconds for an answer, then the connection is given up."""
PAUSE_AFTER_TROUBLE = 0.02
PAUSE_BETWEEN_LOGINS = 0.1
DEAD_KEPT = 4
VERSION = re.compile(rb'"version": ?(\d+)')
ASKED = {
    "staff": 50,
    "staff, If-None-Match": 10,
    "staff, min_version": 10,
    "own": 20,
    "own, If-None-Match": 6,
    "own, dead token": 4,
}
"""And how often."""
WHATS, OFTEN = list(ASKED), list(ASKED.values())


@dataclass(slots=True)
class Token:
    access: str
    issued: int
    """When the answer to the login was there, or later."""


@dataclass(slots=True)
class Asked:
    """What is under way on a connection, and what was known before it was sent."""

    what: str
    user: int
    due: int
    begun: int
    killed: int = 0
    known: int | None = None
    token: Token | None = None


class Line:
    """A connection, made anew when it breaks, and what was asked on it."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.asked: Asked | None = None
        self.idle_until = 0.0


class Reader:
    def __init__(self, cast: Cast, number: int, seed: int) -> None:
        self._cast = cast
        self._number = number
        self._board: Board = cast.board
        self._random = random.Random(seed)
        self._counted: Counter[str] = Counter()
        self._tokens: dict[int, Token] = {}
        self._dead: dict[int, deque[Token]] = {}
        self._login_at: dict[int, float] = {}
        self._seen: dict[int, tuple[int, bytes]] = {}
        self._users = range(len(cast.ids))
        self._suspects = cast.suspects(number).open("a", buffering=1)
        self._lines = [Line() for _ in range(CONNECTIONS)]
        self._by_fileno: dict[int, Line] = {}
        self._poll = select.poll()

    def run(self) -> None:
        while not self._board.over:
            self._begin_all()
            for fileno, _ in self._poll.poll(10):
                self._take(self._by_fileno[fileno])
            self._give_up_late_ones()
            self._board.count(self._number, self._counted)

    # --- Connections ------------------------------------------------------------------------------

    def _begin_all(self) -> None:
        for line in self._lines:
            if line.asked is None and (not line.idle_until or line.idle_until < time.monotonic()):
                self._begin(line)

    def _begin(self, line: Line) -> None:
        line.idle_until = 0.0
        try:
            if line.wire is None:
                self._connect(line)
            self._ask(line)
        except OSError:
            self._break(line)

    def _connect(self, line: Line) -> None:
        line.wire = Wire(self._cast.port)
        self._by_fileno[line.wire.fileno()] = line
        self._poll.register(line.wire.fileno(), select.POLLIN)

    def _break(self, line: Line) -> None:
        self._counted["troubles"] += 1
        self._disconnect(line)
        line.asked = None
        line.idle_until = time.monotonic() + PAUSE_AFTER_TROUBLE

    def _disconnect(self, line: Line) -> None:
        if line.wire:
            self._poll.unregister(line.wire.fileno())
            del self._by_fileno[line.wire.fileno()]
            line.wire.close()
            line.wire = None

    def _give_up_late_ones(self) -> None:
        latest = now() - int(PATIENCE * 1e9)
        for line in self._lines:
            if line.asked and line.asked.begun < latest:
                self._break(line)

    # --- Asking -----------------------------------------------------------------------------------

    def _ask(self, line: Line) -> None:
        what = self._random.choices(WHATS, OFTEN)[0]
        user = self._random.choice(self._users)
        token = self._token_for(what, user)
        if what.startswith("own") and token is None:
            if self._login_at.get(user, 0) < time.monotonic():
                self._log_in(line, user)
                return
            what = "staff"
        known = self._seen[user][0] if what.endswith("Match") and user in self._seen else None
        asked = Asked(
            what, user, self._board.newest(user), 0, self._board.killed(user), known=known, token=token
        )
        asked.begun = now()
        line.asked = asked
        line.wire.send(self._request(asked))

    def _token_for(self, what: str, user: int) -> Token | None:
        if what == "own, dead token":
            dead = self._dead.get(user)
            return self._random.choice(dead) if dead else None
        return self._tokens.get(user) if what.startswith("own") else None

    def _request(self, asked: Asked) -> bytes:
        own = asked.token is not None
        path = "/users/me" if own else f"/users/{self._cast.ids[asked.user]}"
        if asked.what == "staff, min_version":
            path += f"?min_version={asked.due}"
        return request(path, asked.token.access if own else self._cast.staff, known=asked.known)

    def _log_in(self, line: Line, user: int) -> None:
        self._login_at[user] = time.monotonic() + PAUSE_BETWEEN_LOGINS
        line.asked = Asked("login", user, 0, now())
        body = json.dumps({"email": self._cast.email(user), "password": PASSWORD}).encode()
        line.wire.send(request("/auth/token", body=body))

    # --- Looking at answers -----------------------------------------------------------------------

    def _take(self, line: Line) -> None:
        try:
            answer = line.wire.receive()
        except (OSError, Broken, ValueError):
            self._break(line)
            return
        if answer is None:
            return
        asked, line.asked = line.asked, None
        if asked is None:
            self._break(line)
            return
        self._look_at(asked, answer)
        if answer.closing:
            self._disconnect(line)
        if answer.status >= 500:
            line.idle_until = time.monotonic() + PAUSE_AFTER_TROUBLE

    def _look_at(self, asked: Asked, answer: Answer) -> None:
        if answer.status >= 500:
            self._counted["troubles"] += 1
        elif asked.what == "login":
            self._look_at_login(asked, answer)
        elif answer.status in {200, 304}:
            self._look_at_user(asked, answer)
        elif answer.status == 401 and asked.token:
            self._refused(asked)
        else:
            self._suspect("status", asked, answer.status)

    def _look_at_login(self, asked: Asked, answer: Answer) -> None:
        if answer.status == 200:
            self._counted["logins"] += 1
            self._tokens[asked.user] = Token(json.loads(answer.body)["access"], now())
        elif answer.status != 403:  # is blocked
            self._suspect("login", asked, answer.status)

    def _refused(self, asked: Asked) -> None:
        self._counted["refused"] += asked.killed > asked.token.issued
        if self._tokens.get(asked.user) is asked.token:
            self._dead.setdefault(asked.user, deque(maxlen=DEAD_KEPT)).append(self._tokens.pop(asked.user))

    def _look_at_user(self, asked: Asked, answer: Answer) -> None:
        self._counted["reads"] += 1
        self._counted["own"] += asked.token is not None
        self._counted["unchanged"] += answer.status == 304
        version = answer.version or 0
        if version < asked.due:
            self._suspect("min_version" if "min" in asked.what else "old", asked, version)
        if asked.token and asked.killed > asked.token.issued:
            self._suspect("token", asked, asked.token.issued, due=asked.killed)
        if answer.status == 304 and version != asked.known:
            self._suspect("304", asked, version)
        if answer.status == 200:
            self._look_at_body(asked, version, answer.body)

    def _look_at_body(self, asked: Asked, version: int, body: bytes) -> None:
        """The user who was asked for, at the version of the ETag, and always the same at the same version."""
        seen, content = self._seen.get(asked.user, (0, b""))
        if seen == version and content == body:
            return
        told = VERSION.search(body)
        if not told or int(told[1]) != version or self._cast.ids[asked.user].encode() not in body:
            self._suspect("body", asked, version)
        elif seen == version and json.loads(content) != json.loads(body):
            self._suspect("content", asked, version)
        else:
            self._seen[asked.user] = version, body

    def _suspect(self, kind: str, asked: Asked, got: int, *, due: int | None = None) -> None:
        self._counted["suspects"] += 1
        due = asked.due if due is None else due
        suspect = Suspect(kind, asked.user, got, due, asked.begun, now(), asked.what)
        self._suspects.write(suspect.line())


if __name__ == "__main__":
    Reader(Cast.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run()
