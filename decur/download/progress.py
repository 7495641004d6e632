"""Show a progress bar over bytes: done, speed and remaining time."""

import threading

from decur.cluster.progress import byte_bar


class StoppedError(Exception):
    """Stop a part because another part has failed permanently."""


class ByteCounter:
    """Show the bytes of all parts on one bar, which may go back; `stop` ends all parts."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = byte_bar(title, total)
        self._lock = threading.Lock()
        self._positions: dict[str, int] = {}
        self.stop = threading.Event()

    def at(self, name: str, position: int) -> None:
        """Record the number of bytes of a part so far.

        Raises:
            StoppedError: the part should stop.
        """
        if self.stop.is_set():
            raise StoppedError
        with self._lock:
            self._bar.update(position - self._positions.get(name, 0))
            self._positions[name] = position

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()
