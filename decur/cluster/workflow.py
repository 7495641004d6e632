"""Prepare the processes of the Snakemake workflow: user, signals, SLURM jobs and locks."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from decur.cluster.lock import holder, is_gone
from decur.cluster.signals import hold_warning
from decur.cluster.slurm import mark_own_job
from decur.cluster.user import provide_user
from decur.errors import DecurError


def begin(argv: Sequence[str]) -> None:
    """Prepare a Snakemake process, whose command line is `argv`, and the jobs that it starts.

    - Provide a user name, a home folder and cache folders; see `provide_user`.
    - Hold the time limit warning. SLURM sends it to every process of a job step. The job itself
      saves a checkpoint; the Snakemake process around it must survive until then.
    - Mark a SLURM job that runs a single job. If it is orphaned, a later job of the same run may
      end it.
    """
    provide_user()
    hold_warning()
    if is_for_one_job(argv):
        mark_own_job()


def is_for_one_job(argv: Sequence[str]) -> bool:
    """Return whether the SLURM executor started Snakemake for a single job, not for a group."""
    if not {"slurm-jobstep", "--target-jobs"} <= {*argv}:
        return False
    rest = argv[argv.index("--target-jobs") + 1 :]
    return len(list(takewhile(lambda word: not word.startswith("--"), rest))) == 1


def advice_on_lock(claim: Path, locks: Path) -> str | None:
    """Return a message on who holds the Snakemake lock and what to do; None without a lock.

    Args:
        claim: the claim of the results folder, which names its owner.
        locks: the folder of Snakemake's own locks.
    """
    owner = holder(claim)
    if owner is None or not any(locks.glob("*")):
        return None
    try:
        gone = is_gone(owner)
    except DecurError:  # the answer depends on SLURM, which does not respond
        gone = None
    advice = {
        True: "was left by {}, which has ended: remove it with `snakemake --unlock`",
        False: "is in use by {}: wait for it or end it",
        None: "belongs to {}, which may still run: if not, run `snakemake --unlock`",
    }[gone]
    return f"the lock of this folder {advice.format(owner)}"
