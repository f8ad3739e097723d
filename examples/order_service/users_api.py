"""The user service over HTTP, as an account with the role `service`."""

from collections.abc import Iterator
from typing import Any

import httpx

PAGE = 100
ERASED = "erased"


class ServiceAway(Exception):
    """The user service cannot be reached, or cannot answer now; a later try makes sense."""


class UserUnknown(Exception):
    """There is no such user."""


class EventsGone(Exception):
    """The feed no longer reaches back that far; `oldest` is the first sequence that it still has."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the feed begins at {oldest}")
        self.oldest = oldest


class UsersApi:
    """Every wait is bounded by `timeout`. The account's token is fetched when it is needed, and anew when it
    is refused. Usable from several threads."""

    def __init__(self, base_url: str, *, email: str, password: str, timeout: float = 2.0) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout)
        self._credentials = {"email": email, "password": password}
        self._token = ""

    def close(self) -> None:
        self._http.close()

    def events(self, after: int) -> tuple[list[Any], bool]:
        """Envelopes behind the sequence `after`, and whether there are more. Raises EventsGone."""
        answer = self._get("/events", after=after, limit=PAGE)
        if answer.status_code == 410:
            raise EventsGone(answer.json()["oldest"])
        page = _expected(answer)
        return page["results"], page["next"] is not None

    def user(self, user_id: str, *, min_version: int) -> dict[str, Any]:
        """The user as he is now, at that version or later. Raises UserUnknown."""
        answer = self._get(f"/users/{user_id}", min_version=min_version)
        if answer.status_code == 404:
            raise UserUnknown(user_id)
        return dict(_expected(answer))

    def users(self) -> Iterator[dict[str, Any]]:
        """All of them, newest first; each as he is when his page is read."""
        path: str | None = f"/users?limit={PAGE}"
        while path:
            page = _expected(self._get(path))
            yield from page["results"]
            path = page["next"]

    def accepts(self, token: str) -> bool:
        """Whether this access token of somebody's counts right now."""
        answer = self._send("GET", "/users/me", headers=_bearer(token))
        if answer.status_code == 401:
            return False
        _expected(answer)
        return True

    def keys(self) -> list[dict[str, Any]]:
        """The public keys of access tokens (RFC 7517)."""
        return list(_expected(self._send("GET", "/.well-known/jwks.json"))["keys"])

    def _get(self, path: str, **query: int) -> httpx.Response:
        if not self._token:
            self._log_in()
        answer = self._send("GET", path, params=query or None, headers=_bearer(self._token))
        if answer.status_code == 401:
            self._log_in()
            answer = self._send("GET", path, params=query or None, headers=_bearer(self._token))
        return answer

    def _log_in(self) -> None:
        self._token = _expected(self._send("POST", "/auth/token", json=self._credentials))["access"]

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceAway(f"{method} {path.partition('?')[0]}: {type(error).__name__}") from error


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _expected(answer: httpx.Response) -> Any:
    """What a 200 says. Whatever else comes (a full queue, a limit, a gateway's page) may pass."""
    if answer.status_code != 200:
        request = answer.request
        raise ServiceAway(f"{request.method} {request.url.path}: {answer.status_code}")
    try:
        return answer.json()
    except ValueError as error:
        raise ServiceAway(f"{answer.request.url.path}: no JSON") from error
