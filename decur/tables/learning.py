"""Draw the learning curves of pretraining from the logs beside the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from decur.artifacts.paths import Paths, Run
from decur.artifacts.step_log import parsed
from decur.config import Config, Scenario, canonical_variant
from decur.errors import DecurError
from decur.tables.figures import WIDTHS, Images, style_of, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400
"""Approximate number of steps of a log that are drawn."""

SHOWN = {
    "loss": "loss, relative to the first step",
    "align_cross": "alignment of the modalities",
    "rank": "effective rank of the embedding",
}
"""The columns of a log that are drawn, and the titles of their subplots."""


def logs(scenario: Scenario, config: Config, paths: Paths) -> dict[str, pd.DataFrame]:
    """Read the log of each method's default run with the first seed, if it exists.

    Raises:
        DecurError: a log is damaged.
    """
    by_method: dict[str, pd.DataFrame] = {}
    for method in config.methods:
        variant = canonical_variant(config, scenario, "default")
        run = Run(scenario, method, variant, config.seeds[0])
        path = Path(paths.pretrain(str(run))) / "log.jsonl"
        if path.is_file() and path.stat().st_size:
            by_method[method] = read_curve(path)
    return by_method


def read_curve(path: Path) -> pd.DataFrame:
    """Read about `POINTS` steps of a log, and as many steps with measured embeddings.

    Columns: step, loss (smoothed, relative to the first step), align_cross (mean correlation of
    the same dimension in both modalities), rank (effective, mean of both modalities); NaN where not
    measured.

    Raises:
        DecurError: the log is damaged.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    measured = [line for line in lines if '"rank' in line]
    kept = {line for some in (lines, measured) for line in some[:: max(len(some) // POINTS, 1)]}
    try:
        rows = [row for row in map(parsed, kept) if row is not None]
        steps = pd.DataFrame(rows).sort_values("step")
        loss = steps["loss"] / steps["loss"].iloc[0]
    except KeyError:
        raise DecurError(f"{path}: not a log of a run; delete it to leave it out") from None
    return pd.DataFrame(
        {
            "step": steps["step"],
            "loss": loss.rolling(max(len(steps) // 20, 1), min_periods=1).mean(),
            "align_cross": steps.get("align_cross"),
            "rank": steps.filter(regex="^rank").mean(axis=1),
        }
    )


def draw(logs_of: Mapping[str, pd.DataFrame]) -> Images:
    """Draw a subplot for the loss, the alignment across modalities, and the effective rank."""

    def fill(axes: list["Axes"]) -> None:
        for a, (column, name) in zip(axes, SHOWN.items(), strict=True):
            a.set(title=name, xlabel="step")
            for number, (method, log) in enumerate(logs_of.items()):
                points = log.dropna(subset=[column])
                colour, marker, _ = style_of(method)
                every = max(len(points) // 6, 1)
                line: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
                line |= {"markevery": (number * every // max(len(logs_of), 1), every)}
                a.plot(points["step"], points[column], label=method, linewidth=1.1, **line)

    return subplots(len(SHOWN), WIDTHS["curve"], fill)
