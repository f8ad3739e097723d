"""A small site with holes, so that a scanner which finds nothing in ours is seen to find something here."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Holes(BaseHTTPRequestHandler):
    """`/?name=`: a name goes into SQL, and into the page, as it came."""

    def do_GET(self) -> None:
        (name,) = parse_qs(urlsplit(self.path).query).get("name", ["ann"])
        with sqlite3.connect(":memory:") as database:
            database.executescript(
                "CREATE TABLE users (name text); INSERT INTO users VALUES ('ann'), ('bob')"
            )
            try:
                found = database.execute(f"SELECT name FROM users WHERE name = '{name}'").fetchall()
            except sqlite3.Error as error:
                found = [(f"sqlite3.OperationalError: {error}",)]
        page = f"<html><body><a href='/?name=bob'>bob</a><p>{name}</p><p>{found}</p></body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def vulnerable_site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Holes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/?name=ann"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
