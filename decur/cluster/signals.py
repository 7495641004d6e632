"""Handle SIGTERM and SIGUSR1: a job finishes its step, saves a checkpoint and stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from decur.errors import DecurError

WARNING = signal.SIGUSR1
"""Signal that SLURM sends before the time limit (`--signal=USR1@...`): save, continue later."""

SIGNALS = (signal.SIGTERM, WARNING)
"""Signals that SLURM sends before it ends a job: time limit, preemption, or `--signal`."""


class StoppedError(DecurError):
    """Report that a job has saved and stopped; `warned` is true if its time limit was near."""

    def __init__(self, message: str, *, warned: bool) -> None:
        super().__init__(message)
        self.warned = warned


class Request:
    """Name of the signal that asked the process to stop; None if there was none."""

    name: str | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; this is the signal handler."""
        self.name = signal.Signals(number).name


@contextmanager
def stop_request(*signals: signal.Signals) -> Iterator[Request]:
    """Record the signals (by default `SIGNALS`) within the block, so that they do not end it.

    A nested block shares the request of the outer block, so signals from before the inner block are
    kept. Signals that arrived while they were blocked (see `hold_warning`) are kept too.
    """
    request = _request() or Request()
    numbers = signals or SIGNALS
    before = {number: signal.signal(number, request.note) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield request
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)


def check_stop() -> None:
    """Raise an error if the process was asked to stop, within a block of `stop_request`.

    Raises:
        StoppedError: the process was asked to stop.
    """
    request = _request()
    if request is not None and request.name is not None:
        raise StoppedError(f"stopped by {request.name}", warned=request.name == WARNING.name)


def _request() -> Request | None:
    """Return the request of the surrounding `stop_request` block; None outside of one."""
    noting = getattr(signal.getsignal(WARNING), "__self__", None)
    return noting if isinstance(noting, Request) else None


def hold_warning() -> None:
    """Prevent the time limit warning from ending this process and its children.

    The signal is blocked as well as ignored, because a blocked signal stays pending. A child that
    handles it (see `stop_request`) thus receives a warning that came before it was ready.
    """
    signal.signal(WARNING, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [WARNING])
