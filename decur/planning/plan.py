"""What Snakemake would do for a target now, and about what that would cost: `decur plan`.

The jobs are those of a dry run, so what is done already does not count. A job's shell command says
all that it reads, settings and threads included; `costs` makes hours and bytes of that.
"""

import argparse
import csv
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from decur.artifacts.paths import Cell
from decur.config import (
    DatasetSettings,
    Piece,
    PretrainSettings,
    TransferSettings,
    explain_settings_type,
)
from decur.errors import DecurError
from decur.planning import costs
from decur.planning.costs import Cost

S = TypeVar("S", bound=BaseModel)

STAGES = ("download", "preprocess", "verify", "pretrain", "transfer", "explain", "tables")
CORES = 100_000
"""More than any job asks for: with fewer, a dry run shows fewer threads than a cluster gives."""

NOTES = """\
Estimates, good to a factor of two or so. GPU-hours are of one A100: pretraining at the speed of
the paper's hours on four A100, 231 images/s on SSL4EO-S12 (our step took 2,745 on an H100 in a
benchmark, so it may be far less); transfer at 700 images/s of a ResNet-50, scaled from a step on
an H100. CPU-hours of GPU jobs are the cores reserved beside each GPU; of other jobs the time of
one core, as benchmarks had it, or as the job itself took when it last ran. How long downloads wait
for the network is not in them. Disk: archives stay beside what is unpacked, two checkpoints beside
each run's weights."""


@dataclass(frozen=True)
class Job:
    """A job of the dry run; `args` are those of its `decur` command, None of any other command."""

    stage: str
    log: str
    args: argparse.Namespace | None

    @property
    def dataset(self) -> str:
        """The dataset of a download or preprocess job."""
        return str(getattr(self.args, "dataset", ""))


def plan(
    parser: argparse.ArgumentParser,
    targets: Sequence[str],
    profile: str | None = None,
    configfiles: Sequence[str] | None = None,
    config: Sequence[str] | None = None,
) -> str:
    """The Markdown table of what a target would cost; arguments are Snakemake's.

    `parser` is that of `decur`'s command line, which the jobs' shell commands call.

    Raises:
        DecurError: Snakemake cannot say what it would do; its own words follow.
    """
    options = [] if profile is None else ["--profile", _profile(profile)]
    for key, values in (("--configfile", configfiles), ("--config", config)):
        options += [key, *values] if values else []
    jobs = read_jobs(parser, _dry_run([*targets, *options]))
    return as_table(jobs) if jobs else "Nothing to be done: all that the target asks for is there."


def read_jobs(parser: argparse.ArgumentParser, printed: str) -> list[Job]:
    """The jobs of a dry run that printed their shell commands; targets have none."""
    pattern = r"^Shell command: (?!None$)(.*? 2> [^\n]*)$"
    commands = re.findall(pattern, printed, flags=re.MULTILINE | re.DOTALL)
    return [_job(parser, shlex.split(command)) for command in commands]


def as_table(jobs: Sequence[Job]) -> str:
    """Jobs, hours and bytes by stage, and their sum."""
    found = estimate(jobs)
    rows = [(stage, sum(job.stage == stage for job in jobs), found[stage]) for stage in found]
    rows.append(("**total**", len(jobs), sum(found.values(), Cost())))
    lines = [
        "| stage | jobs | CPU-hours | GPU-hours | to download, GB | on disk, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stage, count, cost in rows:
        numbers = map(_number, (cost.cpu, cost.gpu, cost.download, cost.stored))
        lines.append(f"| {stage} | {count:,} | {' | '.join(numbers)} |")
    lines += ["", NOTES]
    if unknown := sorted(rows[-1][2].unknown):
        lines.append(f"Not in it, since nobody knows their size yet: data of {', '.join(unknown)}.")
    return "\n".join(lines)


def estimate(jobs: Sequence[Job]) -> dict[str, Cost]:
    """The cost of each stage that has a job."""
    settings = {
        job.dataset: _settings(DatasetSettings, job)
        for stage in ("download", "preprocess")  # whose settings are the fuller ones
        for job in jobs
        if job.stage == stage
    }
    pieces = {job.dataset for job in jobs if getattr(job.args, "piece", None)}
    found: dict[str, Cost] = {}
    for stage in STAGES:
        parts = [_cost(job, settings, pieces) for job in jobs if job.stage == stage]
        if parts:
            found[stage] = sum(parts, Cost())
    return found


def _profile(name: str) -> str:
    """A folder of `profiles/`, or what Snakemake makes of the name."""
    own = Path("profiles") / name
    return str(own) if own.is_dir() else name


def _dry_run(arguments: Sequence[str]) -> str:
    options = ["--dry-run", "--printshellcmds", "--quiet", "reason", "--cores", str(CORES)]
    command = [sys.executable, "-m", "snakemake", *arguments, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(("Using ", "Building "))]
        raise DecurError(f"snakemake --dry-run: {' '.join(' '.join(told[-4:]).split())}")
    return done.stdout


def _job(parser: argparse.ArgumentParser, words: Sequence[str]) -> Job:
    log = words[words.index("2>") + 1]
    stage = log.rpartition("/logs/")[2].split("/")[0]
    args = None
    if "decur" in words:
        start, end = words.index("decur") + 1, min(words.index(sign) for sign in _redirects(words))
        args = parser.parse_args(words[start:end])
    return Job(re.sub(r"^transfer-\d+$", "transfer", stage), log, args)


def _redirects(words: Sequence[str]) -> list[str]:
    return [sign for sign in (">", "2>") if sign in words]


def _settings(model: type[S], job: Job) -> S:
    assert job.args is not None
    return model.model_validate_json(job.args.settings)


def _cost(job: Job, settings: Mapping[str, DatasetSettings], pieces: set[str]) -> Cost:
    """What a job costs, its time as it was when it last ran, if it did and on cores alone."""
    cost = _estimate(job, settings, pieces)
    seconds = _measured(job)
    if seconds is None or cost.gpu:
        return cost
    return Cost(seconds / costs.HOUR, 0, cost.download, cost.stored)


def _estimate(job: Job, settings: Mapping[str, DatasetSettings], pieces: set[str]) -> Cost:
    args = job.args
    if args is None or job.stage == "tables":
        return costs.SHORT
    if job.stage == "download":
        return costs.download_cost(job.dataset, settings[job.dataset])
    if job.stage == "preprocess":
        own = _settings(DatasetSettings, job)
        share = 1 / Piece.parse(args.piece).of if args.piece else float(job.dataset not in pieces)
        return costs.preprocess_cost(job.dataset, own, share)
    if job.stage == "verify":
        return _verify_cost(args.path, settings)
    if job.stage == "pretrain":
        pretrain = _settings(PretrainSettings, job)
        counts = _counts(args.shards, settings)
        return costs.pretrain_cost(pretrain, counts, args.threads)
    if job.stage == "transfer":
        cells = [Cell.parse(text) for text in args.cells]
        by_dataset = {c.dataset: _counts(args.shards / c.dataset, settings) for c in cells}
        return costs.transfer_cost(
            _settings(TransferSettings, job), cells, by_dataset, args.threads
        )
    counts = _counts(args.shards, settings)
    explained = _settings(explain_settings_type(args.kind), job)
    return costs.explain_cost(args.kind, explained, counts, args.threads)


def _counts(shards: Path, settings: Mapping[str, DatasetSettings]) -> dict[str, int]:
    """Samples by split: as settings say if the shards are to be made, else as their card does."""
    if shards.name in settings:
        return costs.known_counts(shards.name, settings[shards.name])
    return costs.counts_on_disk(shards)


def _verify_cost(shards: Path, settings: Mapping[str, DatasetSettings]) -> Cost:
    name = shards.name
    if name not in settings:
        return costs.verify_cost(sum(path.stat().st_size for path in shards.glob("*.npy")))
    samples = sum(_counts(shards, settings).values())
    if not samples:
        return Cost(unknown=frozenset({name}))
    return costs.verify_cost(samples * costs.sample_bytes(name, settings[name]))


def _measured(job: Job) -> float | None:
    """Seconds of CPU time that a job took when it last ran, or None."""
    path = Path(job.log.replace("/logs/", "/benchmarks/")).with_suffix(".tsv")
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file, delimiter="\t"), {})
    try:
        return float(row.get("cpu_time", ""))
    except ValueError:
        return None


def _number(value: float) -> str:
    """Nothing for zero, two digits after the point for small numbers."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.01 else "< 0.01"
