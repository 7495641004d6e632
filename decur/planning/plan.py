"""What Snakemake would do for a target now, and about what that would cost: `decur plan`.

The jobs are those of a dry run, so what is done already does not count. The rule and the wildcards
of a job name its settings in the configuration; `costs` makes hours and bytes of those.
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
Estimates, good to a factor of two or so. GPU-hours are of one A100: pretraining at the speed of
the paper's hours on four A100, 231 images/s on SSL4EO-S12 (our step took 2,745 on an H100 in a
benchmark, so it may be far less); transfer at 700 images/s of a ResNet-50, scaled from a step on
an H100. CPU-hours of GPU jobs are the cores reserved beside each GPU; of other jobs the time of
one core, as benchmarks had it, or as the job itself took when it last ran. How long downloads wait
for the network is not in them. Disk: archives stay; a run that trains also has
two checkpoints, of twice its weights each, or three times with AdamW."""


def plan(
    targets: Sequence[str],
    profile: str | None = None,
    configfiles: Sequence[str] | None = None,
    config: Sequence[str] | None = None,
) -> str:
    """The Markdown table of what a target would cost; arguments are Snakemake's.

    Raises:
        DecurError: Snakemake cannot say what it would do; its own words follow.
    """
    options = [] if profile is None else ["--profile", _profile(profile)]
    for key, values in (("--configfile", configfiles), ("--config", config)):
        options += [key, *values] if values else []
    pending = dry_run([*targets, *options])
    if not pending.jobs:
        return "Nothing to be done: all that the target asks for is there."
    return as_table(pending)


def as_table(pending: Pending) -> str:
    """Jobs, hours and bytes by stage, and their sum."""
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
        lines.append(f"Not in it, since nobody knows their size yet: data of {', '.join(unknown)}.")
    return "\n".join(lines)


def estimate(pending: Pending) -> dict[str, Cost]:
    """The cost of each stage that has a job."""
    estimates = _Estimates(pending)
    found: dict[str, Cost] = {}
    for stage in STAGES:
        parts = [estimates.of(job) for job in pending.jobs if stage_of(job) == stage]
        if parts:
            found[stage] = sum(parts, Cost())
    return found


def stage_of(job: Job) -> str:
    """The stage that a job is part of: that of its rule's name, or the tables."""
    stage = job.rule.partition("_")[0]
    return stage if stage in STAGES else "tables"


def _profile(name: str) -> str:
    """A folder of `profiles/`, or what Snakemake makes of the name."""
    own = Path("profiles") / name
    return str(own) if own.is_dir() else name


@dataclass(frozen=True)
class _Estimates:
    """What each of the pending jobs costs."""

    pending: Pending

    def of(self, job: Job) -> Cost:
        """The cost of a job; on cores alone its time as it was when it last ran, if it did."""
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
        """The datasets whose shards are yet to be made."""
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
        """Samples by split: as settings say if the shards are to be made, else as their card."""
        if name in self._to_be_made:
            return costs.known_counts(name, self.pending.config.datasets[name])
        return costs.counts_on_disk(Path(self._paths.shards(name)))


def _measured(job: Job) -> float | None:
    """Seconds of CPU time that a job took when it last ran, or None."""
    if job.benchmark is None or not Path(job.benchmark).is_file():
        return None
    with Path(job.benchmark).open(newline="", encoding="utf-8") as file:
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
