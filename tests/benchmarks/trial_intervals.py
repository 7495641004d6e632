"""Means, deviations and intervals of the trials on real frames, from the results of their runs.

The intervals are Student's, of 95 %: of each mean over the seeds, and of DeCUR minus Barlow Twins
paired by seed. With three seeds they are wide.

    snakemake --configfile config/trials.yaml
    python tests/benchmarks/trial_intervals.py
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import t

from decur.config import load_config
from decur.experiments import entries, load_experiments
from decur.paths import Paths

EXPERIMENTS = "config/experiments.yaml"


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean."""
    count = len(values)
    return float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / count**0.5


def described(values: Sequence[float]) -> str:
    """Mean, deviation, and the interval of the mean."""
    mean, half = statistics.fmean(values), half_width(values)
    low, high = mean - half, mean + half
    return f"{mean:.1f} ± {statistics.stdev(values):.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="config/trials.yaml")
    args = parser.parse_args()
    config = load_config(args.config)
    paths = Paths(config.results, config.scale)
    experiments = load_experiments(EXPERIMENTS)
    for name in config.experiments:
        if experiments[name].kind != "table":
            continue
        found: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for entry in entries(experiments[name], config):
            files = [Path(paths.metrics(str(run), str(entry.cell))) for run in entry.runs]
            scores = [json.loads(f.read_text())["metrics"][entry.metric] for f in files]
            cell = (entry.panel.label, f"{entry.cell.labels:g} %", entry.protocol, entry.metric)
            found.setdefault(cell, {})[entry.row.label] = scores
        rows = list(next(iter(found.values())))
        print(f"\n{name}\n\n| modalities | labels | protocol | {' | '.join(rows)} | difference |")
        print(f"|---|---|---|{'---|' * (len(rows) + 1)}")
        for (panel, labels, protocol, _), scores in found.items():
            pairs = zip(scores["DeCUR"], scores["Barlow Twins"], strict=True)
            texts = [described(scores[row]) for row in rows]
            difference = described([ours - theirs for ours, theirs in pairs])
            print(f"| {panel} | {labels} | {protocol} | {' | '.join(texts)} | {difference} |")


if __name__ == "__main__":
    main()
