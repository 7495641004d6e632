"""Measure the time of each part of a pretraining step: `decur pretrain --profile`."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, record_function

from decur.artifacts.ownership import check_ours, write_ours
from decur.artifacts.timing import JobTimer
from decur.config import PretrainSettings
from decur.errors import DecurError
from decur.pretrain.loop import train_steps
from decur.shards import PairedShards
from decur.training.methods import build_model

WARM_UP = 3
WAITING = "waiting for data"


class StopWatch:
    """Time named parts in seconds, with the device synchronised before and after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time the block under this name, and mark it for a profiler."""
        started = self.now()
        with record_function(name):
            yield
            self.seconds[name] += self.now() - started

    def now(self) -> float:
        """Return the time after waiting for all pending work of the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def profile_steps(
    settings: PretrainSettings, shards_root: Path, out: Path, *, device: str, steps: int = 10
) -> pd.DataFrame:
    """Time the parts of some steps from the beginning of a run, without changing the run.

    Also writes `out/profile.json`, a trace of the same steps for Perfetto or chrome://tracing.

    Returns:
        Median milliseconds per step of each part, and its percentage. Parts are timed one after the
        other, so a real step on a GPU takes at most their sum.

    Raises:
        DecurError: the run has too few steps, or `out/profile.json` is not ours.
    """
    trace = out / "profile.json"
    check_ours(trace, _is_trace)
    settings = settings.model_copy(update={"cuda_graph": False})  # a graphed step has no parts
    shards = PairedShards(shards_root)
    model = build_model(settings, shards).to(device)
    watch = StopWatch(torch.device(device))
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device == "cuda")]
    rows: list[dict[str, float]] = []
    schedule = torch.profiler.schedule(wait=0, warmup=WARM_UP, active=steps, repeat=1)
    with (
        TemporaryDirectory() as folder,
        torch.profiler.profile(activities=activities, schedule=schedule) as profiler,
    ):
        started = watch.now()
        run = train_steps(model, settings, shards, Path(folder), "profile", JobTimer(), watch)
        for _ in islice(run, WARM_UP + steps):
            ended = watch.now()
            waited = ended - started - sum(watch.seconds.values())
            rows.append({WAITING: max(waited, 0.0), **watch.seconds})
            watch.seconds.clear()
            profiler.step()
            started = watch.now()
        run.close()  # type: ignore[attr-defined]
    if len(rows) <= WARM_UP:
        raise DecurError(f"--profile needs more than {WARM_UP} steps, but the run has {len(rows)}")
    write_ours(trace, lambda path: profiler.export_chrome_trace(str(path)), _is_trace)
    measured = rows[WARM_UP:]
    parts = {name: 1000 * median(row.get(name, 0.0) for row in measured) for name in measured[0]}
    total = sum(parts.values())
    return pd.DataFrame(
        [{"part": name, "ms": ms, "share": 100 * ms / total} for name, ms in parts.items()]
    )


def _is_trace(path: Path) -> bool:
    """Check by its first lines whether a file is a trace of torch's profiler."""
    with path.open("rb") as file:
        return b'"schemaVersion"' in file.read(1000)
