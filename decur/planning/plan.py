"""Estimate the cost of the jobs that a target still needs: `decur plan`.

The jobs come from a dry run, so finished jobs do not count. The rule and the wildcards of a job
lead to its settings in the configuration; `costs` converts settings to hours and bytes.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from decur.artifacts.paths import Cell, Paths, Run
from decur.config import Piece, explain_settings, pretrain_settings, transfer_settings
from decur.planning import costs
from decur.planning.costs import Cost
from decur.planning.pending import Job, Pending, dry_run

STAGES = ("download", "preprocess", "verify", "pretrain", "transfer", "explain", "tables")

NOTES = """\
The estimates are right within a factor of about two. GPU-hours are for one A100. Pretraining is
estimated from the paper's hours on four A100, which is 231 images/s on SSL4EO-S12; a benchmark of
our step reached 2,745 images/s on an H100, so pretraining may take far less. Transfer is estimated
at 700 images/s of a ResNet-50, scaled from a step on an H100. CPU-hours of GPU jobs are the cores
reserved beside each GPU. CPU-hours of other jobs are core-hours, from benchmarks or from the last
run of the same job. They do not include the time that downloads wait for the network. Disk space
includes the archives, which are kept. While a run trains, it also needs two checkpoints of twice
the size of its weights each, or three times with AdamW."""


def plan(
    targets: Sequence[str],
    profile: str | None = None,
    configfiles: Sequence[str] | None = None,
    config: Sequence[str] | None = None,
) -> str:
    """Estimate the cost of targets as a Markdown table; the arguments are those of Snakemake.

    Raises:
        DecurError: the dry run failed; the message ends with Snakemake's output.
    """
    options = [] if profile is None else ["--profile", _profile(profile)]
    for key, values in (("--configfile", configfiles), ("--config", config)):
        options += [key, *values] if values else []
    pending = dry_run([*targets, *options])
    if not pending.jobs:
        return "Nothing to do: all outputs of the target are up to date."
    return as_table(pending)


def as_table(pending: Pending) -> str:
    """Write a Markdown table of jobs, hours and bytes per stage, and their sums."""
    found = estimate(pending)
    stages = [stage_of(job) for job in pending.jobs]
    rows = [(stage, stages.count(stage), found[stage]) for stage in found]
    rows.append(("**total**", len(stages), sum(found.values(), Cost())))
    lines = [
        "| stage | jobs | CPU-hours | GPU-hours | to download, GB | on disk, GB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stage, count, cost in rows:
        numbers = map(_number, (cost.cpu, cost.gpu, cost.download, cost.stored))
        lines.append(f"| {stage} | {count:,} | {' | '.join(numbers)} |")
    lines += ["", NOTES]
    if unknown := sorted(rows[-1][2].unknown):
        lines.append(f"Not included, as their size is not known yet: data of {', '.join(unknown)}.")
    return "\n".join(lines)


def estimate(pending: Pending) -> dict[str, Cost]:
    """Estimate the cost of each stage that has a job."""
    estimates = _Estimates(pending)
    found: dict[str, Cost] = {}
    for stage in STAGES:
        parts = [estimates.of(job) for job in pending.jobs if stage_of(job) == stage]
        if parts:
            found[stage] = sum(parts, Cost())
    return found


def stage_of(job: Job) -> str:
    """Return the stage of a job by the name of its rule; by default the tables."""
    stage = job.rule.partition("_")[0]
    return stage if stage in STAGES else "tables"


def _profile(name: str) -> str:
    """Return the path of a profile in `profiles/`, or else the name for Snakemake to find."""
    own = Path("profiles") / name
    return str(own) if own.is_dir() else name


@dataclass(frozen=True)
class _Estimates:
    """Estimates the cost of each pending job."""

    pending: Pending

    def of(self, job: Job) -> Cost:
        """Estimate the cost of a job. Without GPUs, the time of its last run is used."""
        estimated = self._by_stage.get(stage_of(job))
        cost = costs.SHORT if estimated is None else estimated(job)
        seconds = _measured(job)
        if seconds is None or cost.gpu:
            return cost
        return Cost(seconds / costs.HOUR, 0, cost.download, cost.stored)

    @property
    def _by_stage(self) -> dict[str, Callable[[Job], Cost]]:
        return {
            "download": self._download,
            "preprocess": self._preprocess,
            "verify": self._verify,
            "pretrain": self._pretrain,
            "transfer": self._transfer,
            "explain": self._explain,
        }

    @cached_property
    def _paths(self) -> Paths:
        return Paths(self.pending.config.results, self.pending.config.scale)

    @cached_property
    def _to_be_made(self) -> set[str]:
        """The datasets whose shards have yet to be made."""
        stages, jobs = ("download", "preprocess"), self.pending.jobs
        datasets = [job.wildcards.get("dataset") for job in jobs if stage_of(job) in stages]
        return {*filter(None, datasets)}

    @cached_property
    def _in_pieces(self) -> set[str]:
        jobs = self.pending.jobs
        return {job.wildcards["dataset"] for job in jobs if "piece" in job.wildcards}

    def _download(self, job: Job) -> Cost:
        if "file" in job.wildcards:
            return costs.fetch_cost(job.wildcards["file"])
        name = job.wildcards["dataset"]
        return costs.download_cost(name, self.pending.config.datasets[name])

    def _preprocess(self, job: Job) -> Cost:
        name = job.wildcards["dataset"]
        if "piece" in job.wildcards:
            share = 1 / Piece.parse(job.wildcards["piece"]).of
        else:
            share = float(name not in self._in_pieces)
        return costs.preprocess_cost(name, self.pending.config.datasets[name], share)

    def _verify(self, job: Job) -> Cost:
        name = job.wildcards["dataset"]
        if name not in self._to_be_made:
            files = Path(self._paths.shards(name)).glob("*.npy")
            return costs.verify_cost(sum(path.stat().st_size for path in files))
        samples = sum(self._counts(name).values())
        if not samples:
            return Cost(unknown=frozenset({name}))
        size = costs.sample_bytes(name, self.pending.config.datasets[name])
        return costs.verify_cost(samples * size)

    def _pretrain(self, job: Job) -> Cost:
        settings = pretrain_settings(self.pending.config, Run.parse(job.wildcards["run"]))
        return costs.pretrain_cost(settings, self._counts(settings.dataset), job.threads)

    def _transfer(self, job: Job) -> Cost:
        run = Run.parse(job.wildcards["run"])
        cell = job.wildcards.get("cell")
        cells = self.pending.transfers[run] if cell is None else [Cell.parse(cell)]
        settings = transfer_settings(self.pending.config, run, cells)
        counts = {cell.dataset: self._counts(cell.dataset) for cell in cells}
        return costs.transfer_cost(settings, cells, counts, job.threads)

    def _explain(self, job: Job) -> Cost:
        run = Run.parse(job.wildcards["run"])
        explainer = job.wildcards["kind"]
        settings = explain_settings(self.pending.config, run, explainer)
        counts = self._counts(settings.pretrain.dataset)
        return costs.explain_cost(explainer, settings, counts, job.threads)

    def _counts(self, name: str) -> dict[str, int]:
        """Return the samples per split, from settings if shards are pending, else from the card."""
        if name in self._to_be_made:
            return costs.known_counts(name, self.pending.config.datasets[name])
        return costs.counts_on_disk(Path(self._paths.shards(name)))


def _measured(job: Job) -> float | None:
    """Read the CPU time [s] of the last run of a job, or None."""
    if job.benchmark is None or not Path(job.benchmark).is_file():
        return None
    with Path(job.benchmark).open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file, delimiter="\t"), {})
    try:
        return float(row.get("cpu_time", ""))
    except ValueError:
        return None


def _number(value: float) -> str:
    """Format a number: "" for zero, two decimals below 10."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.01 else "< 0.01"
