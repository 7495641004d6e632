"""Fetch files from unreliable or busy servers: several at once, from the first working mirror.

Existing libraries do less. huggingface_hub resumes the files it hosts, but supports neither mirrors
nor MD5. pooch and fsspec start over after a break and check after the transfer. So this package has
its own transfer, over `requests` and `urllib3`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from decur.artifacts.ownership import record_ours
from decur.datasets import RemoteFile
from decur.download.progress import ByteCounter
from decur.download.retry import RefusedError
from decur.download.transfer import HEADERS, TIMEOUT_SECONDS, Transfer
from decur.download.verify import Stored, WrongError, check
from decur.errors import DecurError

AT_ONCE = 4
"""Number of parts that are fetched at the same time."""


class FetchError(DecurError):
    """Report a part that could not be fetched from any of its URLs, with the reason for each."""

    def __init__(self, part: RemoteFile, reasons: Sequence[str]) -> None:
        super().__init__(f"{part.name}: not fetched: {'; '.join(reasons)}")
        self.name = part.name


def fetch_all(
    parts: Sequence[RemoteFile],
    folder: Path,
    *,
    given: Path | None = None,
    total: int | None = None,
) -> list[Stored]:
    """Fetch every part into `folder`, several at once; existing files are checked again.

    Args:
        parts: the files to fetch.
        folder: destination.
        given: a folder that may have some of the parts; they are used there, and never changed.
        total: bytes of all parts, for the progress bar.

    Returns:
        The files, in the order of `parts`.

    Raises:
        FetchError: a part cannot be fetched, or its bytes are wrong.
        DecurError: a file in `given` is wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counter = ByteCounter("download", total)

    def bring(part: RemoteFile) -> Stored:
        if given is not None and (given / part.name).is_file():
            return check(part, given / part.name, counter)
        return fetch(part, folder, counter)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(bring, part) for part in parts]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            counter.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            counter.close()
    return [future.result() for future in futures]


def fetch(part: RemoteFile, folder: Path, counter: ByteCounter) -> Stored:
    """Fetch one part into `folder`, from the first of its URLs that gives the right bytes.

    Raises:
        FetchError: no URL gives the right bytes.
        DecurError: a wrong file of this name exists; it may be the user's own.
        StoppedError: another part has failed.
    """
    target = folder / part.name
    if target.is_file():
        return check(part, target, counter)
    reasons = []
    for url in part.urls:
        try:
            stored = Transfer(part, url, target, counter).run()
            record_ours(target)
            return stored
        except (RefusedError, WrongError, requests.RequestException, HTTPError) as error:
            reasons.append(f"{url}: {_short(error)}")
    raise FetchError(part, reasons)


def size_on_server(part: RemoteFile) -> int | None:
    """Return the size stated by the first server that answers, or None."""
    for url in part.urls:
        try:
            answer = requests.head(
                url, headers=HEADERS, timeout=TIMEOUT_SECONDS, allow_redirects=True
            )
        except requests.RequestException:
            continue
        if answer.ok and answer.headers.get("Content-Length", "").isdecimal():
            return int(answer.headers["Content-Length"])
    return None


def _short(error: BaseException) -> str:
    """Return the innermost reason, without the wrapping of requests and urllib3."""
    for inner in (getattr(error, "reason", None), *error.args[-1:]):
        if isinstance(inner, BaseException):
            return _short(inner)
    return " ".join(str(error).split()) or type(error).__name__
