"""Decide when to ask a server again: one policy for all downloads, based on `urllib3`."""

import threading
from contextlib import suppress
from typing import Any, Self

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from decur.download.progress import StoppedError

TRIES = 6
"""Consecutive attempts without a new byte before the next mirror is tried."""

BACKOFF_SECONDS = 1.0
"""Wait after the second consecutive failure is twice this; it doubles each time, up to a minute."""

PATIENCE_SECONDS = 600.0
"""Longest pause accepted from a server, in seconds."""

BUSY = (408, 429, *range(500, 600))
"""HTTP status codes that may be temporary."""


class RefusedError(Exception):
    """Report that this URL will not give the file, so the next one is tried."""


class Patience(Retry):
    """Retry with pauses that end when all downloads stop, and that have a maximum length."""

    def __init__(self, *, stop: threading.Event, **options: Any) -> None:
        super().__init__(**options)
        self._stop = stop

    def new(self, **changes: Any) -> Self:
        """Return a copy with some options changed."""
        return super().new(stop=self._stop, **changes)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Wait as long as the server asks, or else for the back-off time.

        Raises:
            RefusedError: the server asks for too long a pause.
            StoppedError: another part has failed.
        """
        seconds = self.get_backoff_time()
        if response is not None:
            with suppress(InvalidHeader):
                seconds = self.get_retry_after(response) or seconds
            if seconds > PATIENCE_SECONDS:
                after = response.headers["Retry-After"]
                raise RefusedError(f"HTTP {response.status}, Retry-After: {after}")
        if self._stop.wait(seconds):
            raise StoppedError


def patience(stop: threading.Event) -> Patience:
    """Return the retry policy of one transfer, which `stop` ends."""
    return Patience(
        stop=stop,
        total=TRIES - 1,
        backoff_factor=BACKOFF_SECONDS,
        backoff_max=60,
        status_forcelist=BUSY,
    )
