"""One process that changes users over HTTP, and notes what it was answered.

`python -m tests.staleness.writers FOLDER NUMBER SEED PAUSE`: a pause of so many seconds between writes."""

import http.client
import json
import random
import sys
import time

from tests.staleness.board import now
from tests.staleness.cast import Cast
from tests.staleness.verdict import Write

CHANGES = ("rename", "block", "unblock", "roles")
OFTEN = (60, 6, 24, 10)
ROLES: tuple[list[str], ...] = ([], ["service"], ["operator"])
PAUSE_AFTER_TROUBLE = 0.05


class Notebook:
    """What a writer was answered: in his file, for the judge, and then on the board, for the readers."""

    def __init__(self, cast: Cast, number: int) -> None:
        self._number = number
        self._file = cast.writes(number).open("a", buffering=1)
        self.board = cast.board

    def note(self, user: int, version: int, begun: int, what: str) -> None:
        kills = what in {"block", "roles"}
        self._file.write(Write(user, version, begun, now(), kills, what).line())
        self.board.note(self._number, user, version, begun, kills=kills)


class Writer:
    def __init__(self, cast: Cast, number: int, seed: int) -> None:
        self._cast = cast
        self._random = random.Random(seed)
        self._notebook = Notebook(cast, number)
        self._connection: http.client.HTTPConnection | None = None

    def run(self, pause: float) -> None:
        while not self._notebook.board.over:
            try:
                self._change()
                time.sleep(self._random.uniform(0, 2 * pause))
            except (OSError, http.client.HTTPException):
                self._connection = None
                time.sleep(PAUSE_AFTER_TROUBLE)

    def _change(self) -> None:
        what = self._random.choices(CHANGES, OFTEN)[0]
        user = self._random.randrange(len(self._cast.ids))
        address = f"/users/{self._cast.ids[user]}"
        if what == "roles":
            self._change_roles(user, address)
        elif what == "rename":
            self._write(user, what, "PATCH", address, {"name": f"Name {self._random.getrandbits(40)}"})
        else:
            reason = {"reason": "staleness"} if what == "block" else None
            self._write(user, what, "POST", f"{address}/{what}", reason)

    def _change_roles(self, user: int, address: str) -> None:
        """To others for certain: the same once more is a success that kills no token."""
        status, seen = self._exchange("GET", address, None)
        if status == 200:
            roles = self._random.choice([roles for roles in ROLES if roles != seen["roles"]])
            known = {"If-Match": f'"{seen["version"]}"'}
            self._write(user, "roles", "PUT", f"{address}/roles", {"roles": roles}, **known)

    def _write(self, user: int, what: str, method: str, path: str, body: object, **headers: str) -> None:
        begun = now()
        status, answer = self._exchange(method, path, body, **headers)
        if status == 200:
            self._notebook.note(user, answer["version"], begun, what)

    def _exchange(self, method: str, path: str, body: object, **more: str) -> tuple[int, dict]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._cast.port, timeout=10)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._cast.staff}"} | more
        self._connection.request(method, path, body and json.dumps(body), headers)
        response = self._connection.getresponse()
        status, content = response.status, response.read()
        if status >= 500:
            raise http.client.HTTPException(status)
        return status, json.loads(content)


if __name__ == "__main__":
    Writer(Cast.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])).run(float(sys.argv[4]))
