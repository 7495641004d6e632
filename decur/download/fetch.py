"""Files from servers that break, lie or are busy: resumed, verified, never half taken for whole.

A transfer grows `<name>.part`; its checksum is computed on the way, and only a file that is right
gets its name. The libraries at hand do less: huggingface_hub resumes what it hosts itself but knows
no mirror and no MD5, pooch and fsspec begin anew after a break and check after the transfer; so the
transfer is ours, over `requests`.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests
import urllib3

import decur
from decur.artifacts.files import write_all, write_atomically, writing
from decur.datasets import RemoteFile as Part
from decur.download.progress import Progress, StoppedError
from decur.errors import DecurError

CHUNK = 1 << 20
AT_ONCE = 4
"""Parts that are fetched side by side."""

TRIES = 6
"""Attempts in a row without a new byte before the next mirror's turn."""

WRONG_TRIES = 2
"""Whole transfers of one URL with a wrong checksum before the next mirror's turn."""

BACKOFF_SECONDS = 1.0
"""First pause after a failure; doubles up to a minute."""

PATIENCE_SECONDS = 600.0
"""The longest pause that a server may ask for."""

TIMEOUT_SECONDS = (10, 60)  # to connect, and between two bytes
HEADERS = {
    "Accept-Encoding": "identity",  # a resumed range must be of the file, not of its packed form
    "User-Agent": f"decur/{decur.__version__}",
}


class FetchError(DecurError):
    """A part that could not be had from any of its URLs; says why for each."""

    def __init__(self, part: Part, reasons: Sequence[str]) -> None:
        super().__init__(f"{part.name}: not fetched: {'; '.join(reasons)}")
        self.name = part.name


class RefusedError(Exception):
    """This URL will not give the file: go to the next."""


class BusyError(Exception):
    """This URL may give the file later."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class WrongError(Exception):
    """The bytes are not those of the file: throw them away."""


@dataclass(frozen=True)
class Stored:
    """A file that is there and right; `checksum` and `urls` as in `Part`."""

    path: Path
    size: int
    checksum: str
    urls: tuple[str, ...]


def fetch_all(
    parts: Sequence[Part], folder: Path, *, given: Path | None = None, total: int | None = None
) -> list[Stored]:
    """Bring every part into `folder`, several at once; what is there already is checked again.

    Args:
        parts: what to fetch.
        folder: where to.
        given: a folder where parts may lie already; they are used from there, and never changed.
        total: bytes of all parts, for the progress bar.

    Returns:
        The files, in the order of `parts`.

    Raises:
        FetchError: a part cannot be had, or not with the right bytes.
        DecurError: a file in `given` is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress("download", total)

    def bring(part: Part) -> Stored:
        if given is not None and (given / part.name).is_file():
            return check(part, given / part.name, progress)
        return fetch(part, folder, progress)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(bring, part) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            progress.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            progress.close()
    return [future.result() for future in futures]


def size_on_server(part: Part) -> int | None:
    """Size that the first answering server states, or None; any trouble is left to the transfer."""
    for url in part.urls:
        try:
            answer = requests.head(
                url, headers=HEADERS, timeout=TIMEOUT_SECONDS, allow_redirects=True
            )
        except requests.RequestException:
            continue
        if answer.ok and answer.headers.get("Content-Length", "").isdigit():
            return int(answer.headers["Content-Length"])
    return None


def check(part: Part, path: Path, progress: Progress) -> Stored:
    """Check a file that the user has: its size and checksum, as far as they are known.

    Raises:
        DecurError: it is another file, or damaged.
    """
    digest = _digest(part)
    size = _hash_file(digest, path, part.name, progress)
    try:
        return _stored(part, path, size, digest, expected=part.size)
    except WrongError as error:
        raise DecurError(f"{path}: {error}; fetch it again, or remove it") from None


def fetch(part: Part, folder: Path, progress: Progress) -> Stored:
    """Bring one part into `folder`, from the first of its URLs that gives the right bytes.

    Raises:
        FetchError: none does.
        DecurError: a file of its name is there that is not right; it may be the user's own.
        StoppedError: another part has failed.
    """
    target = folder / part.name
    if target.is_file():
        return check(part, target, progress)
    reasons = []
    for url in part.urls:
        try:
            return _Transfer(part, url, target, progress).run()
        except RefusedError as error:
            reasons.append(f"{url}: {error}")
    raise FetchError(part, reasons)


class _Transfer:
    """One part from one URL."""

    def __init__(self, part: Part, url: str, target: Path, progress: Progress) -> None:
        self.part, self.url, self.target, self.progress = part, url, target, progress
        self.partial = target.with_name(f"{target.name}.part")
        self.side = target.with_name(f"{target.name}.part.json")  # where its bytes are from

    def run(self) -> Stored:
        """Try until the file is right, or there is no hope.

        Raises:
            RefusedError: the URL cannot give it.
        """
        failures = wrong = 0
        farthest = self._have()
        with requests.Session() as session:
            while True:
                wait = None
                try:
                    return self._attempt(session)
                except WrongError as error:
                    self.partial.unlink(missing_ok=True)
                    self.side.unlink(missing_ok=True)
                    wrong += 1
                    reason, farthest = str(error), 0
                    if wrong == WRONG_TRIES:
                        raise RefusedError(reason) from None
                except BusyError as error:
                    reason, wait = str(error), error.wait
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    reason = _short(error)
                if self._have() > farthest:
                    failures, farthest = 0, self._have()
                failures += 1
                if failures == TRIES:
                    raise RefusedError(f"{reason} ({TRIES} times)")
                self._pause(
                    min(BACKOFF_SECONDS * 2 ** (failures - 1), 60) if wait is None else wait
                )

    def _attempt(self, session: requests.Session) -> Stored:
        origin, have = self._origin(), self._have()
        # Bytes of another URL, or of no known version, can only be trusted if a checksum follows.
        same = bool(origin.get("version")) and origin.get("url") == self.url
        headers = dict(HEADERS)
        if have and (same or self.part.checksum):
            headers["Range"] = f"bytes={have}-"
        if have and same:
            headers["If-Range"] = str(origin["version"])
        with session.get(
            self.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS
        ) as response:
            start, total = _position(response, have if "Range" in headers else 0)
            if start and same and _version(response) not in (None, origin["version"]):
                raise WrongError("the file on the server has changed")
            if total is None and self.part.checksum is None:
                raise RefusedError(
                    "the server does not say how large the file is, nor is a checksum known"
                )
            if None not in (total, self.part.size) and total != self.part.size:
                raise RefusedError(f"has {total} bytes, expected {self.part.size}")
            digest = _digest(self.part)
            if start:
                _hash_file(digest, self.partial, self.part.name, self.progress)
            size = self._write(response, start, total, digest)
        stored = _stored(self.part, self.target, size, digest, expected=total)
        self.partial.replace(self.target)
        self.side.unlink(missing_ok=True)
        return stored

    def _write(
        self, response: requests.Response, start: int, total: int | None, digest: Any
    ) -> int:
        """Append the answer to the first `start` bytes; returns the size."""
        position = start
        with self.partial.open("ab" if start else "wb", buffering=0) as file:
            if not start:  # after the bytes of another version are gone, before the first of this
                origin = json.dumps({"url": self.url, "version": _version(response)})
                write_atomically(self.side, partial(Path.write_text, data=origin, encoding="utf-8"))
            if position != total:
                # Whatever has come, as the server stores it: `iter_content` would lose what came
                # before a break, and unpack a .gz that a server declares as a packed transfer.
                while chunk := response.raw.read1(CHUNK, decode_content=False):
                    with writing(self.partial.parent):
                        write_all(file, chunk)
                    digest.update(chunk)
                    position += len(chunk)
                    if position > (total or self.part.size or position):  # or it has no end
                        raise WrongError(f"goes on after {total or self.part.size} bytes")
                    self.progress.at(self.part.name, position)
            with writing(self.partial.parent):
                os.fsync(file.fileno())  # a power cut must not leave a name without its bytes
        if total is not None and position < total:
            raise BusyError(f"the connection ended after {position} of {total} bytes")
        return position

    def _have(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _origin(self) -> dict[str, Any]:
        try:
            origin = json.loads(self.side.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return origin if isinstance(origin, dict) else {}

    def _pause(self, seconds: float) -> None:
        if seconds > PATIENCE_SECONDS:
            raise RefusedError(f"the server asks to come back in {seconds:.0f} s")
        if self.progress.stop.wait(seconds):
            raise StoppedError


def _position(response: requests.Response, have: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and the size of the file if it says so.

    Raises:
        BusyError: later.
        RefusedError: never.
        WrongError: the bytes that are there do not fit the file.
    """
    status = response.status_code
    if status == 200:
        if "text/html" in response.headers.get("Content-Type", ""):
            raise RefusedError("gives a web page, not the file")
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None
    span = response.headers.get("Content-Range", "")
    if status == 206 and have:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", span)
        if found is None or int(found[1]) != have:
            raise WrongError(f"the server answered with the range '{span}'")
        return have, int(found[2])
    if status == 416 and have:
        if span != f"bytes */{have}":
            raise WrongError("the server's file is shorter than what there is of it")
        return have, have
    if status in (408, 429) or status >= 500:
        raise BusyError(f"HTTP {status}", _retry_after(response))
    login = " (a login may be needed)" if status in (401, 403) else ""
    raise RefusedError(f"HTTP {status}{login}")


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0)
    except (TypeError, ValueError):
        return None


def _version(response: requests.Response) -> str | None:
    """What tells one version of the file from another, fit for If-Range: a weak ETag is not."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _digest(part: Part) -> Any:
    return hashlib.new((part.checksum or "sha256:").split(":")[0])


def _hash_file(digest: Any, path: Path, name: str, progress: Progress) -> int:
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            progress.at(name, size)
    return size


def _stored(part: Part, path: Path, size: int, digest: Any, *, expected: int | None) -> Stored:
    checksum = f"{digest.name}:{digest.hexdigest()}"
    if expected is not None and size != expected:
        raise WrongError(f"has {size} bytes, expected {expected}")
    if part.checksum is not None and checksum != part.checksum:
        raise WrongError(f"its checksum is {checksum}, expected {part.checksum}")
    return Stored(path, size, checksum, part.urls)


def _short(error: Exception) -> str:
    """The innermost reason, without the layers that requests and urllib3 wrap around it."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[-1], BaseException):
        cause = cause.args[-1]
    text = getattr(cause, "reason", None) or cause
    return f"{type(error).__name__} ({' '.join(str(text).split())})"
