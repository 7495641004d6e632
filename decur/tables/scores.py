"""What the runs measured of a cell."""

import json
import math
from pathlib import Path
from typing import Any

from decur.errors import DecurError
from decur.experiments import Entry
from decur.files import read_once
from decur.paths import Paths


def scores(entry: Entry, paths: Paths) -> dict[int, float]:
    """The entry's metric in percent by seed, of the runs that have been made.

    Raises:
        DecurError: a metrics file is damaged or lacks the metric.
    """
    found = {
        run.seed: _score(Path(paths.metrics(str(run), str(entry.cell))), entry)
        for run in entry.runs
    }
    return {seed: score for seed, score in found.items() if score is not None}


def _score(path: Path, entry: Entry) -> float | None:
    """A metric of a metrics.json; None where the run has not been made yet."""
    if not path.is_file():
        return None
    try:
        metrics = _measured(path)
        absent = entry.panel.missing
        for key in ["missing", *absent.split("/")] if absent else ["metrics"]:
            metrics = metrics[key]
        score = float(metrics[entry.metric])
    except (ValueError, KeyError, TypeError):
        score = math.nan
    if not math.isfinite(score):
        raise DecurError(f"{path}: holds no number for '{entry.metric}'; delete it and run again")
    return score


@read_once
def _measured(path: Path) -> Any:
    """What a metrics.json says was measured, without its long record."""
    tree = json.loads(path.read_bytes())
    return {key: tree[key] for key in ("metrics", "missing") if key in tree}
