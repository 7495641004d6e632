"""Means, deviations and intervals of the trials on real frames, from the results of their runs.

The intervals are Student's, of 95 %: of each mean over the seeds, and of DeCUR minus cross-modal
Barlow Twins, and minus its controls where there are any, paired by seed. With three seeds they are
wide.

    snakemake --configfile config/trials.yaml
    python tests/benchmarks/trial_intervals.py
"""

import argparse
import statistics
from collections.abc import Sequence

from decur.artifacts.paths import Paths
from decur.config import load_config
from decur.config.experiments import entries, load_experiments
from decur.tables.scores import scores
from decur.tables.statistics import student_interval

EXPERIMENTS = "config/experiments.yaml"
OURS = "DeCUR"
OTHERS = ("Barlow Twins", "Barlow Twins single-modal", "DeCUR w/o decoupling")
"""Rows that DeCUR is compared with, where a table has them."""


def described(values: Sequence[float]) -> str:
    """Mean, deviation, and the interval of the mean."""
    mean, (low, high) = statistics.fmean(values), student_interval(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f} [{low:.1f}, {high:.1f}]"


def differences(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """One minus the other, seed by seed."""
    return [a - b for a, b in zip(ours, others, strict=True)]


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
            cell = (entry.panel.label, f"{entry.cell.labels:g} %", entry.protocol, entry.metric)
            measured = list(scores(entry, paths).values())
            found.setdefault(cell, {})[entry.row.label] = measured
        rows = list(next(iter(found.values())))
        others = [row for row in OTHERS if row in rows]
        columns = [*rows, *(f"{OURS} minus {row}" for row in others)]
        print(f"\n{name}\n\n| modalities | labels | protocol | {' | '.join(columns)} |")
        print(f"|---|---|---|{'---|' * len(columns)}")
        for (panel, labels, protocol, _), by_row in found.items():
            texts = [described(by_row[row]) for row in rows]
            texts += [described(differences(by_row[OURS], by_row[row])) for row in others]
            print(f"| {panel} | {labels} | {protocol} | {' | '.join(texts)} |")


if __name__ == "__main__":
    main()
