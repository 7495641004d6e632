"""Asked to stop (SIGTERM, SIGUSR1), a job finishes its step, saves, and says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What SLURM sends before it ends a job: at its time limit, on preemption, as `--signal` asks."""


class Request:
    """Whether, and by which signal, the process was asked to stop."""

    name: str | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: remember the signal."""
        self.name = signal.Signals(number).name


@contextmanager
def stop_request() -> Iterator[Request]:
    """Within the block, the signals are noted and do not end the process."""
    request = Request()
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
