"""Lines through what the stages took at growing sizes, and their values at the paper's size."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from decur.config import load_config
from decur.config.datasets import DATASETS
from decur.planning.costs import sample_bytes

HOME = Path(__file__).parents[2]
POINTS = HOME / "build" / "scale.csv"
BYTES = "bytes"
"""In place of a dataset: shards of samples as large as real ones, by their GB."""

FILES = {
    "ssl4eo-s12": 251_079 * 68,
    "bigearthnet": 590_326 * 16,
    "geonrw": 7_783 * 3,
    "sun-rgbd": 10_335 * 16,
}
"""Files in the official archives; those of a frame are estimated."""

UNITS = {"ssl4eo-s12": 251_079, "bigearthnet": 590_326, "geonrw": 7_783, "sun-rgbd": 10_335}
REAL = {
    "download": {"ssl4eo-s12": 2.4 / 30, "bigearthnet": 2.2 / 300, "geonrw": 1.4 / 15},
    "preprocess": {
        "ssl4eo-s12": 7.5 / 30,
        "bigearthnet": 12.7 / 300,
        "geonrw": 6.8 / 15,
        "sun-rgbd": 1 / 10,
    },
}
"""Seconds of cores per location, pair, tile or frame of real images, see RESULTS.md."""

CORES = {"preprocess": 2}
"""Cores that share the time of a stage, where it is not one."""

COUNTED = {"download": "files", "tables": "results"}
"""What the size of a stage counts, where it is not samples."""

RESULTS = 612
"""Results that the paper scale's tables collate with three seeds: 204 of each."""


class Point(NamedTuple):
    """What a stage took at a size: MB at its peak, and seconds of all cores together.

    The size counts files (download), samples (preprocess, verify, pretrain, transfer), GB (verify
    of `BYTES`) or results (tables).
    """

    stage: str
    dataset: str
    size: float
    mb: float
    cpu: float


def add_points(path: Path, points: Iterable[Point]) -> None:
    """Append points to a file, and show them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for point in points:
            line = f"{point.stage},{point.dataset},{point.size:.10g},{point.mb:.0f},{point.cpu:.1f}"
            print(line, flush=True)
            file.write(f"{line}\n")


def read_points(path: Path) -> list[Point]:
    """The points in a file."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [Point(row[0], row[1], *map(float, row[2:])) for row in rows]


def at_size(sizes: Sequence[float], values: Sequence[float], size: float) -> float:
    """The least-squares line at a size, but no less than what was measured at smaller sizes."""
    slope, start = np.polyfit(sizes, values, 1)
    known = [value for s, value in zip(sizes, values, strict=True) if s <= size]
    return max([start + slope * size, *known])


def paper_table(points: Sequence[Point]) -> str:
    """Markdown: each stage and dataset, its size in the paper, and MB and hours there."""
    lines = [
        "| stage | dataset | counted | measured up to | size in the paper | KB of each | MB "
        "| hours | time of |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for stage, dataset in dict.fromkeys((p.stage, p.dataset) for p in points):
        if dataset == BYTES:
            continue
        own, size = _points_of(points, stage, dataset), _paper_size(stage, dataset)
        sizes = [p.size for p in own]
        slope, _ = np.polyfit(sizes, [p.mb for p in own], 1)
        mb = at_size(sizes, [p.mb for p in own], size)
        seconds, kind = _seconds(points, stage, dataset)
        hours = seconds / 3600 / CORES.get(stage, 1)
        lines.append(
            f"| {stage} | {dataset or 'all'} | {COUNTED.get(stage, 'samples')} | {max(sizes):,.0f} "
            f"| {size:,.0f} | {max(0.0, 1000 * slope):.2f} | {mb:,.0f} | {hours:.2f} | {kind} |"
        )
    return "\n".join(lines)


def _points_of(points: Iterable[Point], stage: str, dataset: str) -> list[Point]:
    """The points of a line; verifying keeps the same of a sample of any dataset."""
    same = [p for p in points if p.stage == stage and p.dataset != BYTES]
    return same if stage == "verify" else [p for p in same if p.dataset == dataset]


def _seconds(points: Sequence[Point], stage: str, dataset: str) -> tuple[float, str]:
    """Seconds of cores at the paper's size, and what they were measured on."""
    size = _paper_size(stage, dataset)
    if stage == "verify":
        return _checking(points, dataset, size), "full-size samples"
    if dataset in REAL.get(stage, {}):
        return REAL[stage][dataset] * UNITS[dataset], "real images"
    own = _points_of(points, stage, dataset)
    seconds = at_size([p.size for p in own], [p.cpu for p in own], size)
    return seconds, "small images" if stage in REAL else "start only" if dataset else "all of it"


def _paper_size(stage: str, dataset: str) -> float:
    if stage == "download":
        return FILES[dataset]
    full = DATASETS[dataset].full if dataset else None
    return RESULTS if full is None else sum(full.counts.values())


def _checking(points: Iterable[Point], dataset: str, samples: float) -> float:
    """Seconds to verify the paper's shards of a dataset, whose samples are far larger than ours."""
    own = [p for p in points if p.dataset == BYTES]
    settings = load_config(HOME / "config" / "paper.yaml").datasets[dataset]
    size = sample_bytes(dataset, settings) * samples / 1e9
    return at_size([p.size for p in own], [p.cpu for p in own], size)
