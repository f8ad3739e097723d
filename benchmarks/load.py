"""Load on a service, and what came of it: requests a second, p50 and p99.

wrk where thousands of requests a second are answered. Where bcrypt allows sixteen, a number of requests timed
from the first byte to the last: wrk does not count those that are in flight when its time is up, which would
be some percent of all, and more of them for a server that works on all at once than for one that queues."""

import http.client
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import orjson

from benchmarks.rig import program

EACH_ONCE = Path(__file__).parent / "wrk" / "each_once.lua"
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
TIMEOUT_SECONDS = 60


class LoadFailed(RuntimeError):
    """Not everything was answered as it should be: what was measured means nothing."""


@dataclass(frozen=True)
class Sample:
    """Requests a second; the rest in seconds."""

    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Request:
    """Its body goes as JSON, or as a form."""

    method: str
    path: str
    body: dict[str, str]
    form: bool = False


@dataclass(frozen=True)
class Answer:
    content: bytes
    headers: Message

    def __getitem__(self, name: str) -> str:
        """A member of the JSON object."""
        return str(orjson.loads(self.content)[name])


def wrk(
    url: str,
    *,
    header: str,
    seconds: float,
    connections: int,
    script: Path | None = None,
    arguments: tuple[str, ...] = (),
    named: str = "",
) -> Sample:
    """One thread's worth of load on one address, or on what the script asks for. `named` has to stand in what
    is read at the address."""
    if script is None:
        _must_tell(url, header, named)
    command = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "30s"]
    command += ["-H", header, *(["-s", str(script)] if script else []), url]
    done = subprocess.run([*command, "--", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(f"wrk: {(done.stderr or done.stdout).strip()}")
    return parsed(done.stdout)


def _must_tell(url: str, header: str, named: str) -> None:
    """Asked once before the load: to wrk a redirection, or a 200 about nobody, is as good as an answer."""
    address = urlsplit(url)
    name, _, value = header.partition(": ")
    with closing(http.client.HTTPConnection(address.netloc, timeout=TIMEOUT_SECONDS)) as wire:
        wire.request("GET", address.path, headers={name: value})
        response = wire.getresponse()
        content = response.read()
        if response.status != 200:
            raise LoadFailed(f"GET {url}: {response.status}")
        if named.encode() not in content:
            raise LoadFailed(f"GET {url} does not name {named}: {content[:300]!r}")


def parsed(output: str) -> Sample:
    """What wrk has printed. Raises LoadFailed for a single answer that was no 2xx or 3xx, or none at all."""
    for trouble in (r"Non-2xx or 3xx responses: \d+", r"Socket errors: .*"):
        if found := re.search(trouble, output):
            raise LoadFailed(f"wrk: {found[0]} (when each id is asked for once: have there been enough?)")
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", output, re.MULTILINE)
    if rate is None or not float(rate[1]):
        raise LoadFailed(f"wrk had no answer:\n{output}")
    return Sample(float(rate[1]), _percentile(output, 50), _percentile(output, 99))


def _percentile(output: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m) *$", output, re.MULTILINE)
    if found is None:
        raise LoadFailed(f"wrk told no {percent}%:\n{output}")
    return float(found[1]) * UNITS[found[2]]


def timed(url: str, requests: Iterable[Request], *, connections: int) -> Sample:
    """All of these requests, so many in flight, each connection kept; from the first one's start to the last
    one's end."""
    clients = _Clients(url, requests)
    began = time.perf_counter()
    clients.start(connections)
    clients.join()
    took = time.perf_counter() - began
    p99 = statistics.quantiles(clients.seconds, n=100, method="inclusive")[98]
    return Sample(len(clients.seconds) / took, statistics.median(clients.seconds), p99)


@contextmanager
def meanwhile(url: str, requests: Iterable[Request], *, connections: int) -> Iterator[list[float]]:
    """A second client, in a closed loop until the block ends. Yields the seconds of each request so far."""
    clients = _Clients(url, requests)
    clients.start(connections)
    try:
        yield clients.seconds
    finally:
        clients.stop.set()
        clients.join()


class _Clients:
    """Threads with a connection each, which take the next request when theirs is answered."""

    def __init__(self, url: str, requests: Iterable[Request]) -> None:
        self._host = urlsplit(url).netloc
        self._requests = iter(requests)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._faults: list[str] = []
        self.stop = threading.Event()
        self.seconds: list[float] = []

    def start(self, count: int) -> None:
        self._threads = [
            threading.Thread(target=self._work, name=f"load-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._faults:
            raise LoadFailed(self._faults[0])

    def _work(self) -> None:
        try:
            with closing(http.client.HTTPConnection(self._host, timeout=TIMEOUT_SECONDS)) as wire:
                while not self.stop.is_set() and (request := self._next()):
                    self._send(wire, request)
        except (OSError, http.client.HTTPException, LoadFailed) as error:
            self._faults.append(f"{type(error).__name__}: {error}")
            self.stop.set()

    def _next(self) -> Request | None:
        with self._lock:
            return next(self._requests, None)

    def _send(self, wire: http.client.HTTPConnection, request: Request) -> None:
        began = time.perf_counter()
        sent(wire, request)
        self.seconds.append(time.perf_counter() - began)


def sent(wire: http.client.HTTPConnection, request: Request) -> Answer:
    """Raises LoadFailed for any answer but a 2xx."""
    if request.form:
        body, kind = urlencode(request.body).encode(), "application/x-www-form-urlencoded"
    else:
        body, kind = orjson.dumps(request.body), "application/json"
    wire.request(request.method, request.path, body, {"Content-Type": kind})
    response = wire.getresponse()
    content = response.read()
    if not 200 <= response.status < 300:
        raise LoadFailed(f"{request.method} {request.path}: {response.status} {content[:300]!r}")
    return Answer(content, response.headers)


def answer(url: str, request: Request) -> Answer:
    """To a single request."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)) as wire:
        return sent(wire, request)
