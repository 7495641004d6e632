"""The job that makes an artifact: all that differs from one run of it to the next."""

import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from decur.artifacts.provenance import RecordPart
from decur.cluster.slurm import own_job, restarts


class JobRecord(RecordPart):
    """When a job started, the seconds that it took, its machine and, of SLURM, its number."""

    started: str
    seconds: float
    host: str
    device: str
    gpus: int
    slurm_job: str | None = None
    slurm_restarts: str | None = None


class JobTimer:
    """A job that starts when this is made, on torch's `device`, with `processes` that share it."""

    def __init__(self, device: str = "cpu", processes: int = 1) -> None:
        self._device, self._processes = device, processes
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = 0.0
        self._clock = time.monotonic()

    def times(self) -> dict[str, Any]:
        """When it started, and the seconds that it has taken so far."""
        seconds = self._earlier + time.monotonic() - self._clock
        return {"started": self._started, "seconds": round(seconds, 2)}

    def go_on_from(self, times: Mapping[str, Any]) -> None:
        """Go on where a job of these `times` was stopped: it began then, and took so long."""
        self._started, self._earlier = times["started"], times["seconds"]

    def record(self) -> JobRecord:
        """The times, the host, the device with the number of GPUs, and SLURM's job if it is one."""
        return JobRecord(
            **self.times(),
            host=socket.gethostname(),
            device=_device_name(self._device),
            gpus=0 if self._device == "cpu" else self._processes,
            slurm_job=own_job(),
            slurm_restarts=_restarts(),
        )


def _restarts() -> str | None:
    """How often SLURM ran this job again; None if never, or outside of SLURM."""
    again = restarts() if own_job() is not None else 0
    return str(again) if again else None


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    from decur.distributed import device_name  # loads PyTorch, which a GPU in use has done already

    return device_name(device)
