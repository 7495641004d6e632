"""Sum the resources that each stage used, from Snakemake's benchmarks."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from decur.tables.pages import Page, grid

ORDER = ("download", "preprocess", "pretrain", "transfer", "explain", "tables")


@dataclass(frozen=True)
class StageUsage:
    """The jobs of a stage: their number, the sums of their times, and the largest memory [MB]."""

    stage: str
    jobs: int
    cpu_seconds: float
    seconds: float
    largest_mb: float


def stage_usage(root: Path) -> list[StageUsage]:
    """Sum the benchmarks of each stage below `root/benchmarks`, in pipeline order."""
    jobs_of: dict[str, list[dict[str, str]]] = {stage: [] for stage in ORDER}
    for path in sorted((root / "benchmarks").rglob("*.tsv")):
        stage = path.relative_to(root / "benchmarks").parts[0].split("-")[0]
        with path.open(newline="", encoding="utf-8") as file:
            jobs_of.setdefault(stage, []).extend(csv.DictReader(file, delimiter="\t"))
    return [
        StageUsage(
            stage,
            len(jobs),
            sum(_number(job["cpu_time"]) for job in jobs),
            sum(_number(job["s"]) for job in jobs),
            max(_number(job["max_rss"]) for job in jobs),
        )
        for stage, jobs in jobs_of.items()
        if jobs
    ]


def _number(text: str) -> float:
    """Parse a number of a benchmark; very short jobs have none, which counts as 0."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def usage_page(stages: Sequence[StageUsage]) -> Page:
    """Make a page with a table of the usage per stage, and a row for the total."""
    if not stages:
        return Page("", body=("Nothing has been measured yet.",))
    total = StageUsage(
        "**all**",
        sum(stage.jobs for stage in stages),
        sum(stage.cpu_seconds for stage in stages),
        sum(stage.seconds for stage in stages),
        max(stage.largest_mb for stage in stages),
    )
    lines = [["Stage", "Jobs", "CPU [h]", "Wall time, summed [h]", "Largest job [GB]"]]
    for usage in [*stages, total]:
        hours = [f"{usage.cpu_seconds / 3600:.2f}", f"{usage.seconds / 3600:.2f}"]
        lines.append([usage.stage, str(usage.jobs), *hours, f"{usage.largest_mb / 1024:.2f}"])
    note = "Snakemake's benchmarks of the latest execution of each job. Jobs may run in parallel."
    return Page("", body=(grid(lines), note))
