"""What a job asks of SLURM about itself and others: requeue, cancel, is it running."""

import os
import subprocess
import time

from decur.errors import DecurError

POLL = 2
"""Seconds between two looks at a job that is to end."""


def own_job() -> str | None:
    """Id of the SLURM job that this process is part of; None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


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
    """Whether a job is pending, running or about to end; what SLURM has forgotten is not.

    Raises:
        DecurError: SLURM does not answer.
    """
    try:
        states = ask("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job)
    except DecurError as error:
        if "Invalid job id" in str(error):
            return False
        raise
    return states.strip() in ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING")


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
