"""What a job asks of SLURM about itself and others: requeue, cancel, is it running."""

import functools
import os
import re
import subprocess
import time

from decur.errors import DecurError

POLL = 2
"""Seconds between two looks at a job that is to end."""

OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
"""The states of a job that has ended; in any other, known here or not, it may run (again)."""

MARK = "DECUR_JOB"
"""Variable with the id of a job that was submitted for one run alone; see `mark_own_job`."""

RESTARTS = "DECUR_RESTARTS"
"""Variable with the restarts of the job that `MARK` names."""


def own_job() -> str | None:
    """Return the id of the SLURM job that this process is part of; None outside of one.

    For a task of an array it is ``ARRAY_TASK``: the plain id of the last task is the array's, too,
    by which SLURM would requeue or cancel every task.
    """
    job = os.environ.get("SLURM_JOB_ID") or None
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return _array_task(job, array, task) if job and array and task else job


@functools.cache
def _array_task(job: str, array: str, task: str) -> str:
    # A job that was submitted from within an array task inherits that task's variables.
    if job != array:
        try:
            found = ask("squeue", "--noheader", "--states=all", "--format=%F_%K", "--jobs", job)
        except DecurError:
            found = ""
        if found.split() == [f"{job}_N/A"]:
            return job
    return f"{array}_{task}"


def restarts() -> int:
    """Return how often SLURM has run this job again."""
    if is_marked():
        return int(os.environ.get(RESTARTS, "0"))
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def is_marked() -> bool:
    """Return whether this process is part of a job that was submitted for one run alone."""
    job = own_job()
    # Jobs that this one submits inherit the variable, but have another id.
    return job is not None and os.environ.get(MARK) == job


def mark_own_job() -> None:
    """Mark this job, for all its processes, as submitted for one run alone; see `is_marked`.

    Its restarts are noted too, since the executor's job step drops SLURM_RESTART_COUNT.
    """
    job = own_job()
    if job is not None:
        os.environ[MARK] = job
        os.environ[RESTARTS] = os.environ.get("SLURM_RESTART_COUNT", "0")


def requeue_own_job() -> str:
    """Ask SLURM to end this job and to run it again under the same id, which is returned.

    Raises:
        DecurError: this is no SLURM job, or SLURM refuses.
    """
    job = own_job()
    if job is None:
        raise DecurError("requeue: this is no SLURM job; run the command again to go on")
    ask("scontrol", "requeue", job)
    return job


def is_alive(job: str) -> bool:
    """Return whether a job, or a part of it, has not ended; what SLURM has forgotten has.

    Raises:
        DecurError: SLURM does not answer.
    """
    try:
        states = ask("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job)
    except DecurError as error:
        if "invalid job id" in str(error).lower():
            return False
        raise
    # One line per task of an array, or per component of a heterogeneous job.
    return any(line.strip() and not is_over(line) for line in states.splitlines())


def is_over(state: str) -> bool:
    """Return whether a state, as squeue or sacct prints it, is one of a job that has ended."""
    found = re.fullmatch(r"([A-Z_]+)(\+| BY .*)?", state.strip().upper())
    return found is not None and found[1] in OVER


def end_job(job: str, patience: float = 600) -> None:
    """Cancel a job, which may take the time to save, and wait until it is gone.

    Raises:
        DecurError: it is still there after `patience` seconds, or is not ours to cancel.
    """
    ask("scancel", job)
    give_up = time.monotonic() + patience
    while is_alive(job):
        if time.monotonic() > give_up:
            raise DecurError(f"SLURM job {job}: does not end; cancel it by hand and run again")
        time.sleep(POLL)


def ask(*command: str) -> str:
    """What a SLURM command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DecurError(f"{command[0]}: SLURM does not answer ({error})") from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise DecurError(f"{' '.join(command)}: {reason}")
    return done.stdout
