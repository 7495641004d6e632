"""Draw probe results: one plane of two accuracies per modality, with one marker per method."""

from typing import TYPE_CHECKING, Any

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import METRIC_NAMES, Experiment, Panel, Row, entries
from decur.tables.figures import WIDTHS, Images, style, subplots
from decur.tables.scores import scores

if TYPE_CHECKING:  # slow to load
    from matplotlib.axes import Axes
    from pandas import DataFrame

COLUMNS = 3
"""Number of planes side by side."""


def collate(experiment: Experiment, config: Config, paths: Paths) -> "DataFrame":
    """Collect scores in percent, with one line per row, panel, metric and seed.

    Raises:
        DecurError: a metrics file is damaged or lacks the metric.
    """
    from pandas import DataFrame

    lines = [
        (entry.row.label, entry.panel.label, entry.metric, seed, score)
        for entry in entries(experiment, config)
        for seed, score in scores(entry, paths).items()
    ]
    return DataFrame(lines, columns=["row", "panel", "metric", "seed", "score"])


def draw(experiment: Experiment, config: Config, paths: Paths) -> Images:
    """Draw a plane per panel, with its first metric on the x-axis and its second on the y-axis.

    A small point is one seed, and a large marker is the mean over the seeds of a row.

    Raises:
        DecurError: see `collate`.
    """
    frame = collate(experiment, config, paths)
    panels = experiment.panels

    def fill(axes: list["Axes"]) -> None:
        for a, panel in zip(axes, panels, strict=True):
            across, up = (f"{METRIC_NAMES.get(m, m)} [%]" for m in panel.metrics)
            a.set(title=panel.label, xlabel=across, ylabel=up, xlim=(0, 105), ylim=(0, 105))
            a.set(xticks=range(0, 101, 25), yticks=range(0, 101, 25))
            a.set_aspect("equal")
            a.grid(visible=True, axis="both")
            own = frame[frame["panel"] == panel.label]
            for row in experiment.rows:
                _mark(a, own[own["row"] == row.label], row, panel)

    return subplots(len(panels), WIDTHS["plane"], fill, columns=COLUMNS)


def _mark(a: "Axes", scores: "DataFrame", row: Row, panel: Panel) -> None:
    by_seed = scores.pivot(index="seed", columns="metric", values="score")
    points = by_seed.reindex(columns=list(panel.metrics)).dropna().to_numpy()
    if not len(points):
        return
    colour, marker, _ = style(row)
    look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "", "zorder": 3}
    a.plot(*points.T, **look, markersize=3, markeredgewidth=0.5, alpha=0.6)
    edge = colour if marker in ("x", "+") else "black"  # these markers have no area
    mean = points.mean(axis=0)[:, None]
    a.plot(*mean, **look, markersize=6, markeredgecolor=edge, markeredgewidth=0.8, label=row.label)
