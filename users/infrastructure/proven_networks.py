"""Where owners have logged in lately, as far as one process has seen it: for the time that Redis is away."""

import hashlib
import threading
from collections import OrderedDict

from users.application.addresses import prefix_of


class ProvenNetworks:
    """Of the `most` pairs of account and network proven last; digests, so that memory holds no addresses."""

    def __init__(self, *, most: int = 10_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pairs: OrderedDict[bytes, None] = OrderedDict()

    def add(self, account: str, address: str) -> None:
        pair = _pair(account, address)
        with self._lock:
            self._pairs[pair] = None
            self._pairs.move_to_end(pair)
            if len(self._pairs) > self._most:
                self._pairs.popitem(last=False)

    def has(self, account: str, address: str) -> bool:
        return _pair(account, address) in self._pairs


def _pair(account: str, address: str) -> bytes:
    text = f"{account}\n{prefix_of(address)}".encode(errors="surrogatepass")
    return hashlib.sha256(text).digest()[:16]
