"""Draw histograms of the alignment of embedding dimensions over batches (figures 4a and 8)."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Experiment, scenario_name
from decur.tables.explained.products import Explained, explained
from decur.tables.figures import STYLES, WIDTHS, Images, style, subplots
from decur.tables.pages import PagePart, Result, experiment_page, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGES = np.linspace(0, 1, 11)
"""The edges of the ten bins of the histogram; losses above 1 count in the last bin."""

COLUMNS = ["scenario", "row", "part", "low", "high", "batches", "share", "share_min", "share_max"]


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the percentage of dimensions per alignment loss.

    Raises:
        DecurError: a file is damaged.
    """
    results = explained(experiment, config, paths, ["batch", "dimension", "loss"])
    frame = bins(results)
    page = experiment_page(experiment, config, _body(results))
    return Result(frame, page, partial(histogram, frame, experiment))


def bins(results: list[Explained]) -> pd.DataFrame:
    """Count the dimensions of each run and part in ten bins on [0, 1].

    Columns: scenario, row, part, low and high (the bin), batches, and, in percent of all dimensions
    of the run, share (the mean over the batches), share_min and share_max (the range).
    """
    frames = [pd.DataFrame(columns=COLUMNS)] if not results else []
    for one in results:
        for part in one.parts:
            shares = _shares(one.frame, part)
            columns: dict[str, Any] = {"scenario": one.scenario, "row": one.row, "part": part}
            columns |= {"low": EDGES[:-1], "high": EDGES[1:], "batches": len(shares)}
            columns["share"] = shares.mean(axis=0)
            columns |= {"share_min": shares.min(axis=0), "share_max": shares.max(axis=0)}
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames)


def _shares(lines: pd.DataFrame, part: str) -> NDArray[np.float64]:
    """Compute the percentage of dimensions in a part and a bin, `(batches, 10)`."""
    shares = []
    for _, batch in lines.groupby("batch"):
        losses = batch["loss"][batch["part"] == part].clip(0, 1)
        shares.append(100 * np.histogram(losses, EDGES)[0] / len(batch))
    return np.stack(shares)


def _body(results: list[Explained]) -> list[PagePart]:
    lines = [["Scenario", "Method", "Dimensions", "Number", "Mean loss", "Range of batches"]]
    for one in results:
        for part in one.parts:
            losses = one.frame[one.frame["part"] == part]
            means = losses.groupby("batch")["loss"].mean()
            spread = f"{means.min():.3f} to {means.max():.3f} ({len(means)})"
            number = str(losses["dimension"].nunique())
            mean = f"{means.mean():.3f}"
            lines.append([scenario_name(one.scenario), one.row, part, number, mean, spread])
    note = (
        "Mean loss over all dimensions and batches; range of the batches' means, with the number "
        "of batches in brackets; one run per method, with the first seed. In the figure, the last "
        "bin includes losses above 1, and lines are ranges over the batches."
    )
    return [grid(lines), note] if results else ["No alignment has been measured yet."]


def histogram(frame: pd.DataFrame, experiment: Experiment) -> Images:
    """Draw a subplot per scenario: common and unique dimensions stacked, others as outlines."""
    rows = {row.label: row for row in experiment.rows}
    scenarios: list[Any] = list(frame.groupby("scenario", sort=False))

    def draw(axes: list["Axes"]) -> None:
        for a, (scenario, of_scenario) in zip(axes, scenarios, strict=True):
            a.set(title=scenario_name(scenario), ylabel="dimensions [%]", ylim=(0, 100))
            a.set(xlabel=f"alignment loss (last bin: ≥ {EDGES[-2]:g})")
            below = np.zeros(len(EDGES) - 1)
            for (label, part), counts in of_scenario.groupby(["row", "part"], sort=False):
                share = counts["share"].to_numpy()
                if part == "all":
                    colour = style(rows[label]).colour
                    a.stairs(share, EDGES, color=colour, linewidth=1.6, label=label, zorder=3)
                    _ranges(a, counts, np.zeros_like(share), 0.5, colour)
                else:
                    _stack(a, share, below, part, f"{label}, {part}")
                    _ranges(a, counts, below, 0.3 if part == "common" else 0.7, "black")
                    below += share

    return subplots(len(scenarios), WIDTHS["histogram"], draw)


def _stack(
    a: "Axes", share: NDArray[np.float64], below: NDArray[np.float64], part: str, label: str
) -> None:
    colour, _, hatch = STYLES[f"decur {part}"]
    bar: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5}
    a.bar(EDGES[:-1], share, np.diff(EDGES), below, align="edge", label=label, **bar)


def _ranges(
    a: "Axes", counts: pd.DataFrame, below: NDArray[np.float64], place: float, colour: str
) -> None:
    """Draw the range over the batches at a `place` in each bin, if the batches differ."""
    low, high = (counts[name].to_numpy() for name in ("share_min", "share_max"))
    x = EDGES[:-1] + place * np.diff(EDGES)
    wide = high > low
    a.vlines(x[wide], (below + low)[wide], (below + high)[wide], color=colour, lw=1.2, zorder=4)
