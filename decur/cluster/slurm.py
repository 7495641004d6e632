"""Query and control SLURM jobs: identify, requeue, cancel, check whether they run."""

import functools
import os
import re
import subprocess
import time

from decur.errors import DecurError

POLL = 2
"""Seconds between two checks whether a cancelled job has ended."""

OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
"""States of a job that has ended; a job in any other state runs or may run again."""

MARK = "DECUR_JOB"
"""Environment variable with the id of a job submitted for one run alone; see `mark_own_job`."""

RESTARTS = "DECUR_RESTARTS"
"""Environment variable with the number of restarts of the job that `MARK` names."""


def own_job() -> str | None:
    """Return the id of the SLURM job that this process is part of; None outside of one.

    The id of an array task is ``ARRAY_TASK``. Its plain id would be ambiguous: for the last task it
    equals the id of the array, and SLURM would requeue or cancel every task.
    """
    job = os.environ.get("SLURM_JOB_ID") or None
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return _array_task(job, array, task) if job and array and task else job


@functools.cache
def _array_task(job: str, array: str, task: str) -> str:
    # A job that was submitted from an array task inherits the variables of that task.
    if job != array:
        try:
            found = ask("squeue", "--noheader", "--states=all", "--format=%F_%K", "--jobs", job)
        except DecurError:
            found = ""
        if found.split() == [f"{job}_N/A"]:
            return job
    return f"{array}_{task}"


def restarts() -> int:
    """Return how often SLURM has restarted this job."""
    if is_marked():
        return int(os.environ.get(RESTARTS, "0"))
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def is_marked() -> bool:
    """Return whether this process is part of a job that was submitted for one run alone."""
    job = own_job()
    # Jobs that a marked job submits inherit the variable, but their id differs.
    return job is not None and os.environ.get(MARK) == job


def mark_own_job() -> None:
    """Mark this job, for all its processes, as submitted for one run alone; see `is_marked`.

    The number of restarts is kept too, because the executor's job step drops SLURM_RESTART_COUNT.
    """
    job = own_job()
    if job is not None:
        os.environ[MARK] = job
        os.environ[RESTARTS] = os.environ.get("SLURM_RESTART_COUNT", "0")


def requeue_own_job() -> str:
    """Ask SLURM to end this job and run it again under the same id; return the id.

    Raises:
        DecurError: this is not a SLURM job, or SLURM refuses.
    """
    job = own_job()
    if job is None:
        raise DecurError("requeue: this is not a SLURM job; run the command again to continue")
    ask("scontrol", "requeue", job)
    return job


def is_alive(job: str) -> bool:
    """Return whether any part of a job has not ended; a job that SLURM has purged has ended.

    Raises:
        DecurError: SLURM does not respond.
    """
    try:
        states = ask("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job)
    except DecurError as error:
        if "invalid job id" in str(error).lower():
            return False
        raise
    # squeue prints one line per array task, or per component of a heterogeneous job.
    return any(line.strip() and not is_over(line) for line in states.splitlines())


def is_over(state: str) -> bool:
    """Return whether a job has ended, given its state as squeue or sacct prints it."""
    found = re.fullmatch(r"([A-Z_]+)(\+| BY .*)?", state.strip().upper())
    return found is not None and found[1] in OVER


def end_job(job: str, patience: float = 600) -> None:
    """Cancel a job and wait until it has ended; it may need time to save a checkpoint.

    Raises:
        DecurError: the job still runs after `patience` seconds, or belongs to another user.
    """
    ask("scancel", job)
    give_up = time.monotonic() + patience
    while is_alive(job):
        if time.monotonic() > give_up:
            raise DecurError(
                f"SLURM job {job}: still runs after scancel; cancel it by hand and run again"
            )
        time.sleep(POLL)


def ask(*command: str) -> str:
    """Run a SLURM command and return its output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DecurError(f"{command[0]}: SLURM does not respond ({error})") from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise DecurError(f"{' '.join(command)}: {reason}")
    return done.stdout
