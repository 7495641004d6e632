"""A local server of files that misbehaves on demand."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from decur.datasets import Part

CHUNK = 1 << 14
NAME = "part.bin"
BODY = np.random.default_rng(0).bytes(300_000)


@dataclass
class Served:
    """A file and how it is served.

    Faults (words of `fault`, in turn) happen `times` times, then the server is good, or serves
    `then` in place of this file.
    """

    body: bytes
    fault: str = ""
    times: int = 1
    then: "Served | None" = None
    drop_after: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    pause: float = 0.0
    """Seconds between two chunks."""


@dataclass
class Request:
    method: str
    name: str
    headers: dict[str, str]


class Server:
    """Files by name, and every request that came."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.url = ""

    def serve(self, name: str, body: bytes, **how: Any) -> Served:
        self.files[name] = Served(body, **how)
        return self.files[name]

    def gets(self, name: str) -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and r.name == name]

    def take_fault(self, served: Served) -> str:
        with self.lock:
            if not served.fault or served.times == 0:
                return ""
            served.times -= 1
            fault, *rest = served.fault.split()
            served.fault = " ".join([*rest, fault])
            return fault


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free local port."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            served = self._find("HEAD")
            if served is not None:
                self.send_response(200)
                if served.length:
                    self.send_header("Content-Length", str(len(served.body)))
                self.end_headers()

        def do_GET(self) -> None:
            served = self._find("GET")
            if served is None:
                return
            fault = server.take_fault(served)
            if fault == "close":
                self.close_connection = True
                return
            if fault.isdigit():
                self.send_response(int(fault))
                for key, value in served.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = served.body
            if fault == "wrong":
                body = bytes(255 - byte for byte in body)
            start = self._start(served)
            if start is None:
                return
            self._send(served, body, start, fault)

        def _find(self, method: str) -> Served | None:
            name = self.path.rsplit("/", 1)[1]
            server.requests.append(Request(method, name, dict(self.headers)))
            if name not in server.files:
                self.send_error(404)
                return None
            served = server.files[name]
            return served.then if served.times == 0 and served.then is not None else served

        def _start(self, served: Served) -> int | None:
            """First byte to send, after the status line; None if there is nothing to send."""
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            version = self.headers.get("If-Range", served.etag) if served.if_range else served.etag
            known = version == served.etag
            if not (wanted and served.ranges and known):
                self.send_response(200)
                return 0
            start, size = int(wanted[1]), len(served.body)
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            return start

        def _send(self, served: Served, body: bytes, start: int, fault: str) -> None:
            self.send_header("ETag", served.etag)
            for key, value in served.headers.items():
                self.send_header(key, value)
            if served.length:
                self.send_header("Content-Length", str(len(body) - start))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            end = start + served.drop_after if fault in ("drop", "stall") else len(body)
            try:
                for i in range(start, end, CHUNK):
                    self.wfile.write(body[i : min(i + CHUNK, end)])
                    if served.pause:
                        threading.Event().wait(served.pause)
                if fault == "stall":
                    threading.Event().wait(1)
            except ConnectionError:  # the client was killed
                pass
            if fault in ("drop", "stall") or not served.length:
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def part(server: Server, *, name: str = NAME, body: bytes | None = BODY, **how: object) -> Part:
    """A part at the server, with the checksum of `body`."""
    checksum = None if body is None else sha256(body)
    urls = (f"{server.url}/{name}",)
    return Part(name, **{"urls": urls, "checksum": checksum, **how})
