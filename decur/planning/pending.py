"""What Snakemake would run now: its own dry run, in a process of its own, as records.

Snakemake describes each job to the log handlers of Python's `logging` by an event with the rule,
wildcards, threads and files. The workflow describes its configuration in the same way.
`python -m decur.planning.pending ARGUMENTS` passes Snakemake its arguments, listens, and prints one
JSON object; whatever Snakemake prints goes to stderr.
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
"""The logger of the workflow, whose record `resolved` has `config` and `transfers`."""

CORES = 100_000
"""More than any job asks for: with fewer, a dry run shows fewer threads than a cluster gives."""


UNINFORMATIVE = ("Using ", "Building ", "Traceback ", 'File "')
"""Beginnings of the lines of Snakemake that do not say what is wrong."""


@dataclass(frozen=True)
class Job:
    """A job of the dry run, as Snakemake describes it; `benchmark` is None where it has none."""

    rule: str
    wildcards: dict[str, str]
    threads: int
    benchmark: str | None = None


@dataclass(frozen=True)
class Pending:
    """The jobs that would make something, the configuration, and the transfer cells of each run."""

    jobs: list[Job]
    config: Config
    transfers: dict[Run, list[Cell]]


def dry_run(arguments: Sequence[str]) -> Pending:
    """Return what Snakemake would run for its own command-line arguments.

    Raises:
        DecurError: Snakemake cannot say; its own words follow.
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
    """Keeps what the records of Snakemake and of the workflow say."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Job] = {}
        self.config: Config | None = None
        self.transfers: dict[Run, list[Cell]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = vars(record)
        if event.get("event") == "job_info" and event["output"]:  # targets have none
            job = Job(event["rule_name"], event["wildcards"], event["threads"], event["benchmark"])
            self.jobs[event["jobid"]] = job
        elif record.name == WORKFLOW:
            self.config, self.transfers = event["config"], event["transfers"]


def main(arguments: Sequence[str]) -> None:
    """Run Snakemake with these arguments, which ask for a dry run, and print its output."""
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
        raise SystemExit(f"{Path.cwd()}: its workflow is not that of decur")
    tree = {
        "jobs": [asdict(job) for job in listener.jobs.values()],
        "config": listener.config.model_dump(mode="json"),
        "transfers": {str(run): [*map(str, cells)] for run, cells in listener.transfers.items()},
    }
    print(json.dumps(tree))


if __name__ == "__main__":
    main(sys.argv[1:])
