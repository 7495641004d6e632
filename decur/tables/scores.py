"""Read the scores of a cell's runs, and note missing labels or samples behind them."""

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
    """Read an entry's metric, or another one, in percent by seed, for the finished runs.

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
    """Describe which labels and samples are missing behind an entry's numbers; empty if none."""
    files = [Path(paths.metrics(str(run), str(entry.cell))) for run in entry.runs]
    trees = [_measured(path) for path in files if path.is_file()]
    evaluated = [tree["evaluated"] for tree in trees if tree.get("evaluated")]
    if not evaluated:  # not measured yet, or by an earlier version
        return ""
    first, dataset = evaluated[0], entry.cell.dataset
    lines = []
    if first["left_out"]:
        lines.append(
            f"{first['left_out']} bad evaluation samples of {dataset} are left out; "
            f"{first['samples']} samples count."
        )
    if absent := first.get("absent_classes"):
        counted = "; the mean includes them, as 0, only if they are predicted"
        lines.append(
            f"No evaluation label of {dataset} contains {_named(absent, first['classes'])}"
            f"{counted if entry.metric.startswith('miou') else ''}."
        )
    untrained = [tree["untrained_classes"] for tree in trees if tree.get("untrained_classes")]
    if untrained:
        seeds = "" if len(untrained) == len(trees) else f" of {len(untrained)} of the seeds"
        most = max(untrained, key=len)
        if len(most) == first["classes"] - 1:
            lines.append(f"The training labels{seeds} contain only one class.")
        else:
            lines.append(f"No training label{seeds} contains {_named(most, first['classes'])}.")
    return " ".join(lines)


def _named(names: Sequence[str], classes: int) -> str:
    """Describe some of the classes by their number and the first names, without marks."""
    shown = [f"'{unmarked(name)}'" for name in names[:MOST_NAMES]]
    rest = ["..."] if len(names) > MOST_NAMES else []
    return f"{len(names)} of {classes} classes ({', '.join([*shown, *rest])})"


def _score(path: Path, entry: Entry, metric: str) -> float | None:
    """Read a metric of a `metrics.json`; None if it has not been measured yet."""
    if not path.is_file():
        return None
    try:
        metrics = _measured(path)
        if entry.panel.split and entry.panel.split not in metrics.get("splits", {}):
            return None  # written by an earlier version, or the dataset lacks the split
        for key in _keys(entry.panel):
            metrics = metrics[key]
        known = list(metrics)
        score = float(metrics.get(metric, math.nan))
    except (AttributeError, ValueError, KeyError, TypeError):
        known, score = [], math.nan
    if known and metric not in known:
        raise DecurError(
            f"{path}: has no metric '{metric}', only {', '.join(known)}; correct `metrics` or "
            f"`paper_metric` of the panel '{entry.panel.label}'"
        )
    if not math.isfinite(score):
        raise DecurError(
            f"{path}: has no number for '{metric}'; delete it and run the transfer stage again"
        )
    return score


def _keys(panel: Panel) -> list[str]:
    """Return the keys of a panel's metrics in the record of a cell."""
    if panel.split:
        return ["splits", panel.split]
    return ["missing", *panel.missing.split("/")] if panel.missing else ["metrics"]


@read_once
def _measured(path: Path) -> Any:
    """Read the needed part of a `metrics.json`, without its long record."""
    tree = json.loads(path.read_bytes())
    return {key: tree[key] for key in KEYS if key in tree}
