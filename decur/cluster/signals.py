"""Asked to stop (SIGTERM, SIGUSR1), a job finishes its step, saves, and says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from decur.errors import DecurError

WARNING = signal.SIGUSR1
"""What `--signal=USR1@...` sends some time before the time limit: save, and go on later."""

SIGNALS = (signal.SIGTERM, WARNING)
"""What SLURM sends before it ends a job: at its time limit, on preemption, as `--signal` asks."""


class StoppedError(DecurError):
    """A job has saved and ended because it was asked to; `warned`: its time was running out."""

    def __init__(self, message: str, *, warned: bool) -> None:
        super().__init__(message)
        self.warned = warned


class Request:
    """Whether, and by which signal, the process was asked to stop."""

    name: str | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: remember the signal."""
        self.name = signal.Signals(number).name


@contextmanager
def stop_request(*signals: signal.Signals) -> Iterator[Request]:
    """Within the block, the signals (by default `SIGNALS`) are noted and do not end the process.

    A block within another one has its request: what came before the inner block is not lost. Nor is
    what came while the signal was blocked, as `hold_warning` does.
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
    """Return unless the process, within `stop_request`, was asked to stop.

    Raises:
        StoppedError: it was.
    """
    request = _request()
    if request is not None and request.name is not None:
        raise StoppedError(f"stopped by {request.name}", warned=request.name == WARNING.name)


def _request() -> Request | None:
    """The request of the block around; None outside of any."""
    noting = getattr(signal.getsignal(WARNING), "__self__", None)
    return noting if isinstance(noting, Request) else None


def hold_warning() -> None:
    """Let the warning of a time limit end neither this process nor its children.

    A child that notes it (see `stop_request`) also gets one that came before it could: a blocked
    signal waits, where one that is only ignored would be lost.
    """
    signal.signal(WARNING, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [WARNING])
