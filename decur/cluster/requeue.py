"""Have SLURM run a job again that has saved because its time runs out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from decur.cluster.signals import StoppedError
from decur.cluster.slurm import own_job, requeue_own_job

PATIENCE = 120
"""Seconds to wait for SLURM to end a job that is requeued."""


@contextmanager
def run_again(requeue: bool, *, asks: bool = True) -> Iterator[None]:
    """Within the block, a SLURM job that is warned of its time limit is requeued if it may be.

    One of a job's processes `asks` SLURM.

    Raises:
        StoppedError: the block was asked to stop; also where the job will run again.
        DecurError: SLURM refuses.
    """
    try:
        yield
    except StoppedError as stopped:
        if not (requeue and stopped.warned and own_job()):
            raise
        if asks:
            print(f"{stopped}: SLURM job {requeue_own_job()} is requeued", flush=True)
        # The end must come from SLURM: a rank that failed would be a failure of the job.
        time.sleep(PATIENCE)
        raise
