"""Requeue a SLURM job that has saved a checkpoint shortly before its time limit."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from decur.cluster.signals import StoppedError
from decur.cluster.slurm import own_job, requeue_own_job

PATIENCE = 120
"""Seconds to wait for SLURM to end a requeued job."""


@contextmanager
def run_again(requeue: bool, *, asks: bool = True) -> Iterator[None]:
    """Requeue this SLURM job if the block stops because of the time limit and `requeue` is true.

    Exactly one process of the job must have `asks` set; it sends the request to SLURM.

    Raises:
        StoppedError: the block was asked to stop, whether or not the job will run again.
        DecurError: SLURM refuses the request.
    """
    try:
        yield
    except StoppedError as stopped:
        if not (requeue and stopped.warned and own_job()):
            raise
        if asks:
            print(f"{stopped}: SLURM job {requeue_own_job()} is requeued", flush=True)
        # Wait for SLURM to end the job: a rank that exits with an error would fail the whole job.
        time.sleep(PATIENCE)
        raise
