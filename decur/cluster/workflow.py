"""What the workflow's processes do about signals, marks of SLURM jobs and locks of others."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from decur.cluster.lock import holder, is_gone
from decur.cluster.signals import hold_warning
from decur.cluster.slurm import mark_own_job
from decur.cluster.user import provide_user
from decur.errors import DecurError


def begin(argv: Sequence[str]) -> None:
    """Prepare a process of Snakemake, whose command line is `argv`, and the jobs that it starts.

    - Snakemake and jobs have a user with a name, a home folder and caches.
    - SLURM warns every process of a job step of its time limit. The job itself answers, by saving
      what it has done; the Snakemake around it must live until then.
    - A SLURM job that was sent for a single job is marked: a later job of the same run may end it,
      if it is left over.
    """
    provide_user()
    hold_warning()
    if is_for_one_job(argv):
        mark_own_job()


def is_for_one_job(argv: Sequence[str]) -> bool:
    """Return whether SLURM's executor started a Snakemake for a single job and not for a group."""
    if not {"slurm-jobstep", "--target-jobs"} <= {*argv}:
        return False
    rest = argv[argv.index("--target-jobs") + 1 :]
    return len(list(takewhile(lambda word: not word.startswith("--"), rest))) == 1


def advice_on_lock(claim: Path, locks: Path) -> str | None:
    """Return whether the lock that Snakemake may find is in use, and what to do; None without one.

    Args:
        claim: the claim of the results folder, which names who works on it.
        locks: the folder of Snakemake's own locks.
    """
    owner = holder(claim)
    if owner is None or not any(locks.glob("*")):
        return None
    try:
        gone = is_gone(owner)
    except DecurError:  # SLURM, which alone would know, does not answer
        gone = None
    advice = {
        True: "was left by {}, which is gone: unlock it by `snakemake --unlock`",
        False: "is in use by {}: wait for it or end it",
        None: "is of {}, which may be at work: if not, `snakemake --unlock`",
    }[gone]
    return f"the lock of this folder {advice.format(owner)}"
