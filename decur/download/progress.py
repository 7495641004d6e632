"""A progress bar over bytes: how far, how fast, how long still."""

import threading

from decur.cluster.progress import byte_bar


class StoppedError(Exception):
    """Another part has failed for good."""


class ByteCounter:
    """The bytes of all parts on one bar, which may go back; `stop` ends all parts together."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = byte_bar(title, total)
        self._lock = threading.Lock()
        self._positions: dict[str, int] = {}
        self.stop = threading.Event()

    def at(self, name: str, position: int) -> None:
        """Record how many bytes of a part there are.

        Raises:
            StoppedError: the part should go no further.
        """
        if self.stop.is_set():
            raise StoppedError
        with self._lock:
            self._bar.update(position - self._positions.get(name, 0))
            self._positions[name] = position

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
