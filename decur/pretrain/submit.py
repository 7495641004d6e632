"""Submit one pretraining run as a separate job, without Snakemake, by submitit."""

import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from decur.cluster.signals import WARNING, stop_request
from decur.cluster.slurm import mark_own_job
from decur.config import PretrainSettings
from decur.errors import DecurError

os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", WARNING.name.removeprefix("SIG"))

POLL = 1.0
"""Seconds between two checks of a job and its log."""


@dataclass(frozen=True)
class Allocation:
    """The resources of a job, on a SLURM cluster or as processes of this machine.

    `tasks` is per node; with `gpus` each task has one GPU. `warning` is the number of seconds
    before the time limit at which a job is asked to save and be requeued. `options` are passed to
    sbatch unchanged.
    """

    cluster: Literal["slurm", "local"] = "slurm"
    nodes: int = 1
    tasks: int = 1
    gpus: bool = True
    cpus: int = 8
    memory_gb: int = 60
    minutes: int = 1440
    warning: int = 180
    options: dict[str, Any] = field(default_factory=dict)


def submit_pretrain(
    settings: PretrainSettings, shards: Path, out: Path, allocation: Allocation
) -> Any:
    """Submit a pretraining run and return its `submitit.Job`; logs go to `out/submitted`.

    Time-out and pre-emption requeue the job, which continues from its last checkpoint.

    Raises:
        DecurError: submitit or SLURM is missing, or the cluster does not take the job.
    """
    try:
        import submitit
    except ImportError as error:
        raise DecurError("decur submit needs submitit: pip install submitit") from error
    try:
        executor = submitit.AutoExecutor(out / "submitted", cluster=allocation.cluster)
    except RuntimeError as error:
        raise DecurError(
            f"SLURM not found ({error}); submit from a machine with `sbatch`, or add "
            "`--cluster local`"
        ) from error
    executor.update_parameters(
        name=f"decur-{settings.method}",
        nodes=allocation.nodes,
        tasks_per_node=allocation.tasks,
        gpus_per_node=allocation.tasks if allocation.gpus else 0,
        cpus_per_task=allocation.cpus,
        mem_gb=allocation.memory_gb,
        timeout_min=allocation.minutes,
    )
    if allocation.cluster == "slurm":
        executor.update_parameters(
            slurm_signal_delay_s=allocation.warning,
            slurm_additional_parameters={"requeue": True, **allocation.options},
            slurm_srun_args=["--kill-on-bad-exit"],
        )
    try:
        return executor.submit(_job, settings.model_dump_json(), str(shards), str(out))
    except submitit.core.utils.FailedJobError as error:
        reason = " ".join(str(error).split())
        raise DecurError(f"the cluster rejected the job: {reason}") from error


def _job(settings: str, shards: str, out: str) -> None:
    """Run one task of the job."""
    # Installed first, because submitit's own handler would end the job without requeueing it.
    with stop_request(WARNING):
        import torch

        from decur.pretrain.run import pretrain

        # A local job may run in an allocation that also has other work.
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            mark_own_job()
        parsed = PretrainSettings.model_validate_json(settings)
        torch.set_num_threads(int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        pretrain(parsed, Path(shards), Path(out), device=device, requeue=True)


def follow(job: Any, stream: IO[str] = sys.stdout) -> None:
    """Copy the output of the job's first task until the job ends; the job outlives this process.

    Raises:
        DecurError: the job failed.
    """
    seen = dict.fromkeys((job.paths.stdout, job.paths.stderr), 0)
    while True:
        done = job.done()
        for path in seen:
            seen[path] = _copy_from(path, seen[path], stream)
        if done:
            break
        time.sleep(POLL)
    error = job.exception()
    if error is not None:  # contains a traceback, whose last line names the reason
        reasons = re.findall(r"^[\w.]*Error: (.*)$", str(error), flags=re.MULTILINE)
        reason = reasons[-1] if reasons else " ".join(str(error).split())
        raise DecurError(f"job {job.job_id} failed: {reason}")


def _copy_from(path: Path, start: int, stream: IO[str]) -> int:
    """Copy a file from a position on; return its end. A requeued job starts the file again."""
    if not path.is_file():
        return 0
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        size = path.stat().st_size
        file.seek(start if size >= start else 0)
        stream.write(file.read())
        stream.flush()
        return file.tell()
