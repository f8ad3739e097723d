"""One process that changes users over HTTP without end, whatever the service answers, if it answers at all.

`python -m tests.chaos.writers PORT ACKNOWLEDGED SEED`: appends a line `<user id> <version>` for each change
that was answered with success, which from then on must not be lost."""

import http.client
import json
import random
import sys
import time
from pathlib import Path

PASSWORD = "correct horse battery"
ADMIN = ("admin@example.com", "open sesame, please")
PAUSE_AFTER_TROUBLE = 0.05


class Trouble(Exception):
    """No answer, or none that helps: killed, restarting, without its database."""


class Wire:
    """A connection that is kept, and made anew after each failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        self._token = ""

    def __call__(self, method: str, path: str, body: object) -> tuple[int, dict]:
        """Raises Trouble."""
        if not self._token:
            self._log_in()
        status, answer = self._exchange(method, path, body)
        if status == 401:
            self._token = ""
        return status, answer

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def _log_in(self) -> None:
        email, password = ADMIN
        status, answer = self._exchange("POST", "/auth/token", {"email": email, "password": password})
        if status != 200:
            raise Trouble
        self._token = answer["access"]

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, dict]:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=8)
            self._connection.request(method, path, body and json.dumps(body), headers)
            response = self._connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Trouble from error
        if status >= 500:
            raise Trouble
        return status, json.loads(content)


class Writer:
    """Registers users, renames, blocks and unblocks them: its own, and those it shares with the others."""

    def __init__(self, wire: Wire, acknowledged: Path, seed: int) -> None:
        self._wire = wire
        self._random = random.Random(seed)
        self._seed = seed
        self._made = 0
        self._known: list[str] = []
        self._acknowledged = acknowledged.open("a", buffering=1)

    def run(self) -> None:
        while True:
            try:
                self._share()
                break
            except Trouble:
                time.sleep(PAUSE_AFTER_TROUBLE)
        while True:
            try:
                self._change()
            except Trouble:
                time.sleep(PAUSE_AFTER_TROUBLE)

    def _share(self) -> None:
        """Ten users whom all writers change, so that they race."""
        for number in range(10):
            body = {"email": f"shared{number}@example.com", "name": "Shared", "password": PASSWORD}
            self._note(self._wire("POST", "/users", body))
        status, page = self._wire("GET", "/users?limit=10&email_prefix=shared", None)
        if status != 200 or len(page["results"]) < 10:
            raise Trouble
        self._known += [user["id"] for user in page["results"]]

    def _change(self) -> None:
        what = self._random.choices(["register", "rename", "block", "unblock"], [25, 45, 15, 15])[0]
        if what == "register":
            self._made += 1
            email = f"user{self._seed}.{self._made}.{time.monotonic_ns()}@example.com"
            body = {"email": email, "name": "User", "password": PASSWORD}
            if user_id := self._note(self._wire("POST", "/users", body)):
                self._known = [*self._known[:10], *self._known[10:][-50:], user_id]
            return
        path = f"/users/{self._random.choice(self._known)}"
        if what == "rename":
            self._note(self._wire("PATCH", path, {"name": f"Name {self._random.getrandbits(40)}"}))
        else:
            self._note(self._wire("POST", f"{path}/{what}", {"reason": "chaos"} if what == "block" else None))

    def _note(self, answered: tuple[int, dict]) -> str | None:
        status, user = answered
        if status not in {200, 201}:
            return None
        self._acknowledged.write(f"{user['id']} {user['version']}\n")
        return user["id"]


if __name__ == "__main__":
    Writer(Wire(int(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])).run()
