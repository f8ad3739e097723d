"""On the PYTHONPATH of a served process: it finds no name and calls nobody but this machine, whatever
address a test has invented. Code that opens its sockets in its own way cannot go round an audit hook."""

import socket
import sys
from typing import Any

HERE = ("127.", "localhost", "::1")


def stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    match event, arguments:
        case "socket.getaddrinfo" | "socket.gethostbyname", (host, *_):
            named = host.decode() if isinstance(host, bytes) else host
        case "socket.connect" | "socket.sendto", (_, (str(named), *_)):
            pass
        case _:
            return
    if named and not named.startswith(HERE):
        raise socket.gaierror(socket.EAI_NONAME, "served for tests: nobody is called but this machine")


sys.addaudithook(stay_here)
