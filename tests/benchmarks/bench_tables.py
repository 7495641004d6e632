"""Seconds of CPU time to collate every table and figure of the paper scale from made-up results.

`python tests/benchmarks/bench_tables.py [--seeds 3] [--profile]`: a folder with a `metrics.json` of
every transfer run of the scale and an `alignment.csv` of every run that has one, as large
as real ones, then `decur tables` in a process of its own: for tables alone, and with the figures.
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decur.artifacts.paths import Cell, Paths, Run
from decur.cli import main as decur
from decur.config import Config, load_config, pretrain_settings, transfer_settings
from decur.config.experiments import (
    Experiment,
    chosen_experiments,
    explain_runs,
    load_experiments,
    transfer_runs,
)
from decur.tables.run import has_figure

HOME = Path(__file__).parents[2]
EXPERIMENTS = HOME / "config" / "experiments.yaml"
METRICS = ("map_micro", "map_macro", "miou", "accuracy", "mean_accuracy", "dominant_class")


def fill(paths: Paths, config: Config, experiments: dict[str, Experiment]) -> int:
    """Write the results; returns how many `metrics.json` there are."""
    rng = np.random.default_rng(0)
    root = Path(paths.root)
    root.mkdir(parents=True)
    Path(paths.config()).write_text(config.model_dump_json(indent=1))
    Path(paths.experiments()).write_bytes(EXPERIMENTS.read_bytes())
    count = 0
    for run, cells in transfer_runs(experiments.values(), config).items():
        settings = transfer_settings(config, run, cells).model_dump(mode="json")
        for cell in cells:
            write_metrics(Path(paths.metrics(str(run), str(cell))), run, cell, settings, rng)
            count += 1
    for run, kind in explain_runs(experiments.values(), config):
        if kind == "alignment":
            dim, batches = pretrain_settings(config, run).dim, config.explain.alignment.batches
            path = Path(paths.explain(str(run), kind))
            write_alignment(path, dim, batches, run.method == "decur", rng)
    return count


def write_metrics(
    path: Path, run: Run, cell: Cell, settings: dict[str, Any], rng: np.random.Generator
) -> None:
    """The product of a transfer run, its record included."""

    def scores() -> dict[str, float]:
        return {name: float(rng.uniform(30, 90)) for name in METRICS}

    absent = {m: {w: scores() for w in ("zeros", "mean")} for m in cell.modalities.split("+")}
    tree = {
        "run": str(run),
        "cell": str(cell),
        "metrics": scores(),
        "per_class": {f"class {i}": float(rng.uniform(30, 90)) for i in range(19)},
        "missing": absent if "+" in cell.modalities else {},
        "provenance": {"settings": settings, "inputs": {}, "pretrained": {"settings": settings}},
        "job": {"seconds": 1.0},
    }
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(tree, indent=1))


def write_alignment(
    path: Path, dim: int, batches: int, parted: bool, rng: np.random.Generator
) -> None:
    """A loss of every dimension and batch, and a record, which says that it is whole."""
    part = np.where(np.arange(dim) < dim * 7 // 8, "common", "unique") if parted else ["all"] * dim
    path.parent.mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "batch": np.repeat(np.arange(batches), dim),
            "dimension": np.tile(np.arange(dim), batches),
            "part": np.tile(part, batches),
            "loss": rng.uniform(0, 1, batches * dim).round(6),
        }
    )
    frame.to_csv(path, index=False)
    path.with_suffix(".json").write_text('{"facts": {}}')


def cpu_seconds(*arguments: str) -> float:
    """CPU time of a `decur` process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "decur", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"decur {' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--config", default=str(HOME / "config" / "paper.yaml"))
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    args = parser.parse_args()
    config = load_config(args.config).model_copy(update={"seeds": tuple(range(args.seeds))})
    experiments = chosen_experiments(load_experiments(EXPERIMENTS), config)
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(folder, config.scale)
        count = fill(paths, config, experiments)
        if args.profile:
            with cProfile.Profile(time.process_time) as profile:
                decur(["tables", paths.root])
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
            return
        read = [f"--only={name}" for name, e in experiments.items() if not has_figure(e)]
        print(f"{count} metrics.json, {len(experiments)} experiments, CPU seconds:")
        drawn = len(experiments) - len(read)
        alone, all_of_it = (cpu_seconds("tables", paths.root, *only) for only in (read, []))
        print(f"  {len(read)} that are not drawn: {alone:.2f}")
        print(f"  all, with {drawn} figures: {all_of_it:.2f}")


if __name__ == "__main__":
    main()
