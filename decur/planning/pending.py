"""List the jobs that Snakemake would run now, from a dry run in a separate process.

Snakemake sends an event per job to the log handlers of Python's `logging`, with the rule,
wildcards, threads and files. The workflow logs its configuration in the same way.
`python -m decur.planning.pending ARGUMENTS` passes the arguments to Snakemake, collects the events,
and prints one JSON object. Snakemake's own output goes to stderr.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

from decur.artifacts.paths import Cell, Run
from decur.config import Config
from decur.errors import DecurError

WORKFLOW = "decur.workflow"
"""The logger of the workflow. Its record `resolved` has `config` and `transfers`."""

CORES = 100_000
"""More cores than any job requests: with fewer, a dry run would reduce the threads of jobs."""


UNINFORMATIVE = ("Using ", "Building ", "Traceback ", 'File "')
"""Prefixes of lines of Snakemake that do not name the problem."""


@dataclass(frozen=True)
class Job:
    """A job of the dry run; `benchmark` is its benchmark file, or None."""

    rule: str
    wildcards: dict[str, str]
    threads: int
    benchmark: str | None = None


@dataclass(frozen=True)
class Pending:
    """The jobs that would write outputs, the configuration, and the transfer cells of each run."""

    jobs: list[Job]
    config: Config
    transfers: dict[Run, list[Cell]]


def dry_run(arguments: Sequence[str]) -> Pending:
    """Return the jobs that Snakemake would run for its command-line arguments.

    Raises:
        DecurError: the dry run failed; the message ends with Snakemake's output.
    """
    options = ["--dry-run", "--quiet", "rules", "--cores", str(CORES)]
    command = [sys.executable, "-m", __name__, *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        reasons = [
            line for line in lines if line.strip("^~") and not line.startswith(UNINFORMATIVE)
        ]
        raise DecurError(f"snakemake --dry-run: {' '.join(' '.join(reasons[-4:]).split())}")
    tree = json.loads(done.stdout)
    return Pending(
        [Job(**job) for job in tree["jobs"]],
        Config.model_validate(tree["config"]),
        {Run.parse(run): [*map(Cell.parse, cells)] for run, cells in tree["transfers"].items()},
    )


class _Listener(logging.Handler):
    """Collects jobs and configuration from the log records of Snakemake and of the workflow."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}
        self.config: Config | None = None
        self.transfers: dict[Run, list[Cell]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = vars(record)
        if event.get("event") == "job_info" and event["output"]:  # targets have no output
            job = Job(event["rule_name"], event["wildcards"], event["threads"], event["benchmark"])
            self.jobs[event["jobid"]] = job
        elif record.name == WORKFLOW:
            self.config, self.transfers = event["config"], event["transfers"]


def main(arguments: Sequence[str]) -> None:
    """Run Snakemake with the arguments of a dry run, and print its jobs as JSON."""
    from snakemake.cli import main as snakemake

    listener = _Listener()
    for name in ("snakemake", WORKFLOW):
        logging.getLogger(name).addHandler(listener)
    logging.getLogger(WORKFLOW).setLevel(logging.DEBUG)
    try:
        with redirect_stdout(sys.stderr):
            snakemake([*arguments])
    except SystemExit as end:
        if end.code:
            raise
    if listener.config is None:
        raise SystemExit(
            f"{Path.cwd()}: not a folder of the decur workflow; run this in the repository"
        )
    tree = {
        "jobs": [asdict(job) for job in listener.jobs.values()],
        "config": listener.config.model_dump(mode="json"),
        "transfers": {str(run): [*map(str, cells)] for run, cells in listener.transfers.items()},
    }
    print(json.dumps(tree))


if __name__ == "__main__":
    main(sys.argv[1:])
