"""Sends one message by HTTP, to a receiver that may be slow, broken or hostile.

The name is resolved here and the connection goes to the very address that was checked, so no second answer of
DNS leads it elsewhere. One deadline covers everything from the first question to the last header."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import structlog
from django.db import close_old_connections

from users.application.ports import Clock
from users.application.webhook_endpoint import Answer, Endpoint, Message
from users.infrastructure.webhooks import signing
from users.infrastructure.webhooks.addresses import AddressRules
from users.infrastructure.webhooks.signing import SealedSecrets, SecretUnreadable

log = structlog.get_logger(__name__)

Send = Callable[[Endpoint, Message], Answer]
Resolve = Callable[[str, int], Sequence[str]]
"""The IP addresses of a host and port, in the order in which to try them. Raises OSError."""

USER_AGENT = "user-service-webhooks/1"
BODY_BYTES = 4096
BODY_SECONDS = 1.0
ADDRESSES_TRIED = 3
ASKED_TO_WAIT = {429, 503}


class AddressRefused(Exception):
    """The name leads to an address that may not be called."""


class Unresolvable(Exception):
    """The name leads nowhere."""


WORDS: dict[type[Exception], str] = {
    TimeoutError: "timeout",
    AddressRefused: "address_refused",
    Unresolvable: "unresolvable",
    SecretUnreadable: "secret_unreadable",
    httpx.TimeoutException: "timeout",
    httpx.ConnectError: "connection_failed",
    httpx.HTTPError: "broken_answer",
    httpx.InvalidURL: "invalid_url",
    ssl.SSLError: "tls_failed",  # after the handshake; some are a ValueError too
    OSError: "broken_answer",
    ValueError: "invalid_url",
}
"""What may go wrong, the first that fits counting."""


def resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpSender:
    """`tls`: what certificates are checked with; None: the usual authorities, or those of SSL_CERT_FILE."""

    def __init__(
        self,
        secrets: SealedSecrets,
        rules: AddressRules,
        *,
        timeout_seconds: float,
        clock: Clock,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._secrets = secrets
        self._rules = rules
        self.timeout_seconds = timeout_seconds
        self._clock = clock
        self._resolve = resolve
        self._tls = tls

    def send(self, endpoint: Endpoint, message: Message) -> Answer:
        """Signs and posts once; whatever goes wrong is in the answer."""
        with self.line() as send:
            return send(endpoint, message)

    @contextmanager
    def line(self) -> Iterator[Send]:
        """`send` for several messages to one endpoint, which may share a connection. For one thread."""
        if self._tls is None:
            self._tls = httpx.create_ssl_context()  # takes 10 ms, and most processes never send
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=None,  # noqa: S113
            )

            def send(endpoint: Endpoint, message: Message) -> Answer:
                close_old_connections()  # with a pool: no connection of it is kept from others meanwhile
                return runner.run(self._attempt(client, endpoint, message))

            try:
                yield send
            finally:
                with suppress(Exception):  # all answers are there
                    runner.run(client.aclose())

    async def _attempt(self, client: httpx.AsyncClient, endpoint: Endpoint, message: Message) -> Answer:
        began = time.monotonic()
        status, error, retry_after = None, None, None
        try:
            response = await self._post(client, endpoint, message)
            status, error = response.status_code, _refusal(response.status_code)
            retry_after = _retry_after(response, self._clock())
        except tuple(WORDS) as failure:
            error = _word(failure)
        except Exception as failure:  # noqa: BLE001  # unforeseen, and still nothing but a failed attempt
            # By its kind alone: its text may have the address in it.
            log.error("webhook_attempt_failed", error=type(failure).__name__)  # noqa: TRY400
            error = "broken_answer"
        return Answer(
            status=status,
            error=error,
            duration_ms=round((time.monotonic() - began) * 1000),
            retry_after=retry_after,
        )

    async def _post(self, client: httpx.AsyncClient, endpoint: Endpoint, message: Message) -> httpx.Response:
        """The response as far as its headers; the rest is of no interest."""
        deadline = asyncio.get_running_loop().time() + self.timeout_seconds
        async with asyncio.timeout_at(deadline):
            request = self._request(endpoint, message)
            addresses = await self._addresses(request.url)
            response = await _send_to_first(client, request, addresses, deadline)
        with suppress(Exception):  # what comes behind the status takes nothing back
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + BODY_SECONDS)):
                await _read_a_little(response)
        with suppress(Exception):
            await response.aclose()
        return response

    def _request(self, endpoint: Endpoint, message: Message) -> httpx.Request:
        now = self._clock()
        secrets, timestamp = self._opened(endpoint, now), int(now.timestamp())
        signed = signing.headers(secrets, message_id=message.event_id, timestamp=timestamp, body=message.body)
        plain = {"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "identity"}
        return httpx.Request("POST", endpoint.url, content=message.body, headers=signed | plain)

    def _opened(self, endpoint: Endpoint, now: datetime) -> list[str]:
        """Without a previous secret that no key opens: it may be the one that was rotated away for that."""
        present, *previous = endpoint.sealed_secrets(now)
        secrets = [self._secrets.open(present)]
        for sealed in previous:
            with suppress(SecretUnreadable):
                secrets.append(self._secrets.open(sealed))
        return secrets

    async def _addresses(self, url: httpx.URL) -> list[str]:
        host, port = _host(url), url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        if not self._rules.allows_scheme(url.scheme):
            raise AddressRefused
        try:
            addresses = list(await _in_thread(lambda: self._resolve(host, port)))
        except OSError as error:
            raise Unresolvable from error
        if not addresses:
            raise Unresolvable
        if not all(map(self._rules.allows, addresses)):
            raise AddressRefused
        return addresses[:ADDRESSES_TRIED]


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


async def _send_to_first(
    client: httpx.AsyncClient, request: httpx.Request, addresses: Sequence[str], deadline: float
) -> httpx.Response:
    """To the first address that takes the connection; each has its share of the time that is left. Raises
    httpx.ConnectError or httpx.ConnectTimeout when none does."""
    for left in range(len(addresses), 0, -1):
        share = max(0.0, deadline - asyncio.get_running_loop().time()) / left
        try:
            return await client.send(_led_to(addresses[-left], request, connect=share), stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if left == 1:
                raise
    raise Unresolvable


def _led_to(address: str, request: httpx.Request, *, connect: float) -> httpx.Request:
    """The same request; the name still stands in the Host header, and is what the certificate has to bear."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        content=request.content,
        headers=request.headers,
        extensions={
            "sni_hostname": _host(request.url).rstrip("."),
            "timeout": {"connect": connect},
        },
    )


async def _read_a_little(response: httpx.Response) -> None:
    """To the end where that is near: then the connection is good for the next message."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > BODY_BYTES:
            return


async def _in_thread(act: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Not in asyncio's own threads, which have to come back before the loop or the process can end: DNS may
    hang for half a minute."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[str]] = loop.create_future()

    def settle(result: Sequence[str] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(result or ())

    def run() -> None:
        result, raised = None, None
        try:
            result = act()
        except Exception as error:  # noqa: BLE001  # it is raised again where it is awaited
            raised = error
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(settle, result, raised)

    threading.Thread(target=run, name="webhook-dns", daemon=True).start()
    return await answer


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    return "redirect" if 300 <= status < 400 else "status"


def _retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Seconds; the header has either those or a date."""
    text = response.headers.get("retry-after", "") if response.status_code in ASKED_TO_WAIT else ""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - now).total_seconds())
    except (ValueError, OverflowError):
        return None


def _word(failure: Exception) -> str:
    """The stable word for what went wrong."""
    if isinstance(failure, httpx.ConnectError) and _is_about_tls(failure):
        return "tls_failed"
    return next(word for kind, word in WORDS.items() if isinstance(failure, kind))


def _is_about_tls(failure: BaseException | None) -> bool:
    while failure:
        if isinstance(failure, ssl.SSLError):
            return True
        failure = failure.__cause__ or failure.__context__
    return False
