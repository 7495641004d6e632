"""The scores of a cell's runs, and a note on what the labels behind them lack."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decur.artifacts.files import read_once
from decur.artifacts.paths import Paths
from decur.config.experiments import Entry, Panel
from decur.errors import DecurError
from decur.tables.markup import unmarked

KEYS = ("metrics", "missing", "splits", "evaluated", "untrained_classes")
MOST_NAMES = 6


def scores(entry: Entry, paths: Paths, metric: str | None = None) -> dict[int, float]:
    """The entry's metric, or another one, in percent by seed, of the runs that have been made.

    Raises:
        DecurError: a metrics file is damaged or lacks the metric.
    """
    by_seed = {
        run.seed: _score(
            Path(paths.metrics(str(run), str(entry.cell))), entry, metric or entry.metric
        )
        for run in entry.runs
    }
    return {seed: score for seed, score in by_seed.items() if score is not None}


def note(entry: Entry, paths: Paths) -> str:
    """Describe what the labels and samples behind an entry's numbers lack; empty if nothing."""
    files = [Path(paths.metrics(str(run), str(entry.cell))) for run in entry.runs]
    trees = [_measured(path) for path in files if path.is_file()]
    evaluated = [tree["evaluated"] for tree in trees if tree.get("evaluated")]
    if not evaluated:  # nothing yet, or by an earlier version
        return ""
    first, dataset = evaluated[0], entry.cell.dataset
    lines = []
    if first["left_out"]:
        lines.append(
            f"{first['left_out']} bad evaluation samples of {dataset} are left out, beside "
            f"{first['samples']} that count."
        )
    if absent := first.get("absent_classes"):
        counted = ", which the mean counts, as 0, only where they are predicted"
        lines.append(
            f"No evaluation label of {dataset} shows {_named(absent, first['classes'])}"
            f"{counted if entry.metric.startswith('miou') else ''}."
        )
    untrained = [tree["untrained_classes"] for tree in trees if tree.get("untrained_classes")]
    if untrained:
        seeds = "" if len(untrained) == len(trees) else f" of {len(untrained)} of the seeds"
        most = max(untrained, key=len)
        if len(most) == first["classes"] - 1:
            lines.append(f"The training labels{seeds} show one class alone.")
        else:
            lines.append(f"No training label{seeds} shows {_named(most, first['classes'])}.")
    return " ".join(lines)


def _named(names: Sequence[str], classes: int) -> str:
    """The number of some of the classes, and the names of the first ones, without marks."""
    shown = [f"'{unmarked(name)}'" for name in names[:MOST_NAMES]]
    rest = ["..."] if len(names) > MOST_NAMES else []
    return f"{len(names)} of {classes} classes ({', '.join([*shown, *rest])})"


def _score(path: Path, entry: Entry, metric: str) -> float | None:
    """A metric of a `metrics.json`; None where it has not been measured yet."""
    if not path.is_file():
        return None
    try:
        metrics = _measured(path)
        if entry.panel.split and entry.panel.split not in metrics.get("splits", {}):
            return None  # by an earlier version, or the dataset lacks it
        for key in _keys(entry.panel):
            metrics = metrics[key]
        known = list(metrics)
        score = float(metrics.get(metric, math.nan))
    except (AttributeError, ValueError, KeyError, TypeError):
        known, score = [], math.nan
    if known and metric not in known:
        raise DecurError(
            f"{path}: has no metric '{metric}' but {', '.join(known)}; correct `metrics` or "
            f"`paper_metric` of the panel '{entry.panel.label}'"
        )
    if not math.isfinite(score):
        raise DecurError(f"{path}: holds no number for '{metric}'; delete it and run again")
    return score


def _keys(panel: Panel) -> list[str]:
    """Where the metrics of a panel are in the record of a cell."""
    if panel.split:
        return ["splits", panel.split]
    return ["missing", *panel.missing.split("/")] if panel.missing else ["metrics"]


@read_once
def _measured(path: Path) -> Any:
    """The part of a `metrics.json` that is read here, without its long record."""
    tree = json.loads(path.read_bytes())
    return {key: tree[key] for key in KEYS if key in tree}
