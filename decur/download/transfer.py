"""Fetch one file from one URL: resume after a break, verify, and name the file once it is right.

The bytes are appended to `<name>.part`, and their checksum is computed as they arrive. Until an
answer begins, `urllib3` connects and retries. A broken body is resumed here, by the same policy.
"""

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, ProtocolError
from urllib3.util import Retry

import decur
from decur.artifacts.files import write_all, write_atomically, writing
from decur.datasets import RemoteFile
from decur.download.progress import ByteCounter
from decur.download.retry import RefusedError, patience
from decur.download.verify import CHUNK, Stored, WrongError, hash_file, new_digest, verify

WRONG_TRIES = 2
"""Complete transfers of one URL with a wrong checksum before the next mirror is tried."""

TIMEOUT_SECONDS = (10, 60)  # to connect, and between two bytes
HEADERS = {
    "Accept-Encoding": "identity",  # a resumed range must be of the file itself, not compressed
    "User-Agent": f"decur/{decur.__version__}",
}


class Transfer:
    """Transfer a part from one URL to `target`."""

    def __init__(self, part: RemoteFile, url: str, target: Path, counter: ByteCounter) -> None:
        self.part, self.url, self.target, self.counter = part, url, target, counter
        self.partial = target.with_name(f"{target.name}.part")
        self.side = target.with_name(f"{target.name}.part.json")  # records the bytes' origin
        self.retry = patience(counter.stop)

    def run(self, tries: int = WRONG_TRIES) -> Stored:
        """Fetch until the file is right, or the tries are used up.

        Raises:
            WrongError: the URL gives other bytes.
            RefusedError, requests.RequestException, urllib3.exceptions.HTTPError: it gives none.
            StoppedError: another part has failed.
        """
        try:
            return self._resume()
        except WrongError:
            self.partial.unlink(missing_ok=True)
            self.side.unlink(missing_ok=True)
            if tries == 1:
                raise
            return self.run(tries - 1)

    def _resume(self) -> Stored:
        """Fetch the file; resume after a broken body, and reset the tries after new bytes."""
        farthest = self._have()
        while True:
            try:
                return self._attempt()
            except HTTPError as error:  # in the body: urllib3 handles what comes before it
                if self._have() > farthest:
                    self.retry, farthest = patience(self.counter.stop), self._have()
                self.retry = self.retry.increment("GET", self.url, error=error)
                self.retry.sleep()

    def _attempt(self) -> Stored:
        origin, have = self._origin(), self._have()
        # Bytes of another URL or an unknown version can only be trusted if a checksum is known.
        same = bool(origin.get("version")) and origin.get("url") == self.url
        headers = {}
        if have and (same or self.part.checksum):
            headers["Range"] = f"bytes={have}-"
        if have and same:
            headers["If-Range"] = str(origin["version"])
        with (
            _session(self.retry) as session,
            session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer,
        ):
            self.retry = answer.raw.retries  # includes the tries used so far
            start, total = _position(answer, have if headers else 0)
            if start and same and _version(answer) not in (None, origin["version"]):
                raise WrongError("the file on the server has changed")
            self._check_size(total)
            digest = new_digest(self.part)
            if start:
                hash_file(digest, self.partial, self.part.name, self.counter)
            size = self._write(answer, start, total, digest)
        stored = verify(self.part, self.target, size, digest, expected=total)
        self.partial.replace(self.target)
        self.side.unlink(missing_ok=True)
        return stored

    def _check_size(self, total: int | None) -> None:
        if total is None and self.part.checksum is None:
            raise RefusedError(
                "the server does not state the size of the file, and no checksum is known"
            )
        if None not in (total, self.part.size) and total != self.part.size:
            raise RefusedError(f"has {total} bytes, expected {self.part.size}")

    def _write(self, answer: requests.Response, start: int, total: int | None, digest: Any) -> int:
        """Append the answer to the first `start` bytes; returns the size."""
        position = start
        with self.partial.open("ab" if start else "wb", buffering=0) as file:
            if not start:  # old bytes are truncated by now, and new ones not yet written
                origin = json.dumps({"url": self.url, "version": _version(answer)})
                write_atomically(self.side, partial(Path.write_text, data=origin, encoding="utf-8"))
            for chunk in _chunks(answer) if position != total else ():
                with writing(self.partial.parent):
                    write_all(file, chunk)
                digest.update(chunk)
                position += len(chunk)
                if position > (total or self.part.size or position):  # the answer may be endless
                    raise WrongError(f"goes on after {total or self.part.size} bytes")
                self.counter.at(self.part.name, position)
            with writing(self.partial.parent):
                os.fsync(file.fileno())  # a power cut must not leave a name without its bytes
        if total is not None and position < total:
            raise ProtocolError(f"the connection ended after {position} of {total} bytes")
        return position

    def _have(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _origin(self) -> dict[str, Any]:
        try:
            origin = json.loads(self.side.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return origin if isinstance(origin, dict) else {}


def _session(retry: Retry) -> requests.Session:
    session = requests.Session()
    session.headers.update(HEADERS)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """Yield the body as the server stores it, as soon as it arrives.

    `iter_content` would lose the bytes before a break, and decompress a .gz that a server declares
    as a compressed transfer.
    """
    while chunk := answer.raw.read1(CHUNK, decode_content=False):
        yield chunk


def _position(answer: requests.Response, have: int) -> tuple[int, int | None]:
    """Return the position of the answer in the file, and the file's size if it is stated.

    Raises:
        RefusedError: the URL does not give the file.
        WrongError: the existing bytes do not match the file.
    """
    status = answer.status_code
    if status == 200:
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise RefusedError("gives a web page, not the file")
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    span = answer.headers.get("Content-Range", "")
    if status == 206 and have:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", span)
        if found is None or int(found[1]) != have:
            raise WrongError(f"the server answered with the range '{span}'")
        return have, int(found[2])
    if status == 416 and have:
        if span != f"bytes */{have}":
            raise WrongError("the server's file is shorter than the part fetched so far")
        return have, have
    login = " (a login may be needed)" if status in (401, 403) else ""
    raise RefusedError(f"HTTP {status}{login}")


def _version(answer: requests.Response) -> str | None:
    """Return a version of the file for If-Range, which does not accept weak ETags."""
    etag = answer.headers.get("ETag", "W/")
    return answer.headers.get("Last-Modified") if etag.startswith("W/") else etag
