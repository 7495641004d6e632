"""Check a cluster with one short job per class of jobs: `snakemake preflight`.

Each job checks on its node what its class of jobs needs, and writes a record. `table` prints all
records. A failed check is a row of the table, and so is a lost job.
"""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from decur.artifacts.files import write_atomically
from decur.artifacts.paths import Paths
from decur.artifacts.preflight import Check, PreflightRecord
from decur.cluster.slurm import own_job
from decur.config import Config, load_config
from decur.errors import DecurError
from decur.planning.columns import as_columns
from decur.planning.rank_checks import device, ranks
from decur.planning.status import last_line
from decur.planning.storage_checks import links, storage

JOBS: dict[str, Callable[[Config, Path], Iterator[Check]]] = {
    "download": links,
    "cpu": storage,
    "pretrain": ranks,
    "transfer": device,
    "explain": device,
}
"""The checks of each class of jobs."""

HEADS = ("job", "host", "subject", "state", "found", "what to change")
WIDE = 240
"""Characters per line of the table's file."""


def preflight(job: str, root: Path, out: Path, threads: int) -> None:
    """Run the checks of a class of jobs for the results in `root`, and write their record.

    Args:
        job: a key of `JOBS`; `pretrain` may have several ranks, of which the first writes.
        root: the folder `results/<scale>` with the configuration.
        out: path of the record.
        threads: expected cores per task of the job.

    Raises:
        DecurError: there is no configuration.
    """
    config = load_config(_paths(root).config())
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before PyTorch is loaded
    checks = chain([_cores(threads)], JOBS[job](config, root))
    if job != "pretrain":
        _write(job, _until_failure(job, checks), out)
        return
    from decur.distributed import is_main, process_group, world_size

    with process_group():
        # An error in one of several ranks must end the job, or the others would wait for that rank.
        made = [*(checks if world_size() > 1 else _until_failure(job, checks))]
        if is_main():
            _write(job, made, out)


def lost(job: str, log: Path, out: Path) -> None:
    """Write the record of a job that failed, with the last line of its log."""
    found = last_line(log) or "ended without output"
    remedy = f"see {log}; change the resources of these jobs in the profile"
    _write(job, [Check(subject="job", state="error", found=found, remedy=remedy)], out)


def table(root: Path, width: int | None = None) -> str:
    """Lay out the records below `root` as a table, and write it there as well."""
    rows = [row for job in JOBS for row in _rows(job, Path(_paths(root).preflight(job)))]
    states = [row[3] for row in rows]
    counts = f"{states.count('error')} errors, {states.count('warning')} warnings"

    def text(width: int | None) -> str:
        return f"{as_columns(HEADS, rows, width, whole=HEADS[:4:3])}\n\n{counts}\n"

    path = Path(_paths(root).preflight_table())
    write_atomically(path, lambda temporary: temporary.write_text(text(WIDE), encoding="utf-8"))
    return text(width)


def _paths(root: Path) -> Paths:
    root = root.absolute()
    return Paths(str(root.parent), root.name)


def _cores(threads: int) -> Check:
    """Check that a task has the expected number of cores."""
    given = len(os.sched_getaffinity(0))
    found = f"{given} for {threads} threads"
    if given >= threads:
        return Check(subject="cores", state="ok", found=found)
    remedy = "request more in the profile: `set-threads`, and `--cpus-per-task` of `launch`"
    return Check(subject="cores", state="warning", found=found, remedy=remedy)


def _until_failure(job: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Run checks one by one; an exception ends them and becomes an error."""
    try:
        yield from checks
    except Exception as error:  # anything may be missing on a node
        found = f"{type(error).__name__}: {error}"
        remedy = "run `decur doctor` on such a node to check its installation"
        yield Check(subject=job, state="error", found=found, remedy=remedy)


def _rows(job: str, path: Path) -> Iterator[tuple[str, ...]]:
    try:
        record = PreflightRecord.read(path)
    except (DecurError, OSError):
        found, remedy = (
            "no record: SLURM refused or ended the job",
            "see Snakemake's output about it",
        )
        yield (job, "", "job", "error", found, remedy)
        return
    for check in record.checks:
        yield (job, record.host, check.subject, check.state, check.found, check.remedy)


def _write(job: str, checks: Iterable[Check], out: Path) -> None:
    host, number = socket.gethostname(), own_job()
    PreflightRecord(job=job, host=host, slurm_job=number, checks=tuple(checks)).write(out)
