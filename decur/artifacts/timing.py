"""Record the job that made an artifact: start, duration, machine, device and SLURM job."""

import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from decur.artifacts.provenance import RecordPart
from decur.cluster.slurm import own_job, restarts


class JobRecord(RecordPart):
    """Start time, duration in seconds, machine, device and SLURM job of a job."""

    started: str
    seconds: float
    host: str
    device: str
    gpus: int
    slurm_job: str | None = None
    slurm_restarts: str | None = None


class JobTimer:
    """Measure a job from now on, with PyTorch's `device` and the number of its `processes`."""

    def __init__(self, device: str = "cpu", processes: int = 1) -> None:
        self._device, self._processes = device, processes
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._earlier = 0.0
        self._clock = time.monotonic()

    def times(self) -> dict[str, Any]:
        """Return the start time and the seconds so far, including earlier parts of the job."""
        seconds = self._earlier + time.monotonic() - self._clock
        return {"started": self._started, "seconds": round(seconds, 2)}

    def go_on_from(self, times: Mapping[str, Any]) -> None:
        """Continue a stopped job: take its start time and add its duration."""
        self._started, self._earlier = times["started"], times["seconds"]

    def record(self) -> JobRecord:
        """Return the record of the job so far: times, host, device, GPUs and SLURM job."""
        return JobRecord(
            **self.times(),
            host=socket.gethostname(),
            device=_device_name(self._device),
            gpus=0 if self._device == "cpu" else self._processes,
            slurm_job=own_job(),
            slurm_restarts=_restarts(),
        )


def _restarts() -> str | None:
    """Return how often SLURM restarted this job; None if never, or outside of SLURM."""
    again = restarts() if own_job() is not None else 0
    return str(again) if again else None


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    from decur.distributed import device_name  # imported late, because it loads PyTorch

    return device_name(device)
