"""Files from servers that break, lie or are busy: several at once, from the first good mirror.

The libraries at hand do less: huggingface_hub resumes what it hosts itself but knows no mirror and
no MD5, pooch and fsspec begin anew after a break and check after the transfer; so the transfer is
ours, over `requests` and `urllib3`.
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
"""Parts that are fetched side by side."""


class FetchError(DecurError):
    """A part that could not be had from any of its URLs; says why for each."""

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
    """Bring one part into `folder`, from the first of its URLs that gives the right bytes.

    Raises:
        FetchError: none does.
        DecurError: a file of its name is there that is not right; it may be the user's own.
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
    """Return the size that the first answering server states, or None if there is none."""
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
    """Return the innermost reason, without what requests and urllib3 wrap around it."""
    for inner in (getattr(error, "reason", None), *error.args[-1:]):
        if isinstance(inner, BaseException):
            return _short(inner)
    return " ".join(str(error).split()) or type(error).__name__
