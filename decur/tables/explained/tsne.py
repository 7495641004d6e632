"""Draw t-SNE maps of embedding dimensions, one plane per batch (figures 1 and 9)."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Experiment, scenario_name
from decur.tables.explained.products import Explained, explained, joined
from decur.tables.figures import Images, stacked
from decur.tables.pages import PagePart, Result, experiment_page, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = ["batch", "modality", "dimension", "part", "x", "y"]
SIDE = 2.2
"""The side of a plane in inches."""

NEAREST = 10
COLOURS = ("#b2182b", "#2166ac")
"""Colours of the first and the second modality."""

MARKERS: dict[tuple[str, int], dict[str, Any]] = {
    ("unique", 0): {"marker": "^", "s": 9, "linewidths": 0},
    ("unique", 1): {"marker": "o", "s": 9, "facecolors": "none", "linewidths": 0.7},
    ("common", 0): {"marker": "x", "s": 11, "linewidths": 0.6},
    ("common", 1): {"marker": "s", "s": 15, "facecolors": "none", "linewidths": 0.5},
}
"""Markers by part and modality. Coinciding common dimensions look like a cross in a square."""


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the planes of all runs.

    Raises:
        DecurError: a file is damaged.
    """
    results = explained(experiment, config, paths, ["batch", "dimension", "x", "y"])
    page = experiment_page(experiment, config, _body(results))
    return Result(joined(results, COLUMNS), page, partial(draw, results))


def mixed(plane: pd.DataFrame) -> pd.Series:
    """Compute the percentage of each point's ten nearest neighbours in the other modality.

    `plane` contains the points of one batch; the result has its index.
    """
    from scipy.spatial import KDTree

    points = plane[["x", "y"]].to_numpy()
    count = min(NEAREST, len(points) - 1)
    _, nearest = KDTree(points).query(points, k=count + 1)  # the point itself is one of them
    modality = plane["modality"].to_numpy()
    others = (modality[nearest] != modality[:, None]).sum(axis=1)
    return pd.Series(100 * others / count, index=plane.index)


def _body(results: list[Explained]) -> list[PagePart]:
    lines = [["Scenario", "Method", "Dimensions", "Number", "Near the other modality", "Batches"]]
    for one in results:
        planes = [plane for _, plane in one.frame.groupby("batch")]
        near = pd.concat([mixed(plane) for plane in planes])
        for part in one.parts:
            share = near[one.frame["part"] == part].mean()
            number = str(one.frame[one.frame["part"] == part]["dimension"].nunique())
            place = [scenario_name(one.scenario), one.row]
            lines.append([*place, part, number, f"{share:.1f}", str(len(planes))])
    note = (
        "Percentage of the ten points nearest to a dimension that belong to the other modality: "
        "about 50 if both modalities agree, 0 if they separate. One run per method, with the first "
        "seed. Distances between distant groups, and directions, have no meaning in t-SNE."
    )
    return [grid(lines), note] if results else ["No results yet."]


def draw(results: list[Explained]) -> Images:
    """Draw a block per method, with a column per scenario and a row per batch."""
    methods = {
        row: [one for one in results if one.row == row]
        for row in dict.fromkeys(one.row for one in results)
    }
    shapes = [
        (max(one.frame["batch"].nunique() for one in runs), len(runs)) for runs in methods.values()
    ]
    sizes = [(SIDE * columns, SIDE * lines + 0.9) for lines, columns in shapes]

    def block(number: int, part: "SubFigure") -> None:
        name, runs = list(methods.items())[number]
        part.suptitle(name, fontsize=9)
        axes = part.subplots(*shapes[number], squeeze=False)
        for a in axes.flat:
            a.set(xticks=[], yticks=[])
            a.grid(visible=False)
        for column, one in zip(axes.T, runs, strict=True):
            column[0].set_title(scenario_name(one.scenario))
            planes = [plane for _, plane in one.frame.groupby("batch")]
            for a, plane in zip(column, planes, strict=False):
                a.spines[:].set_visible(True)
                _scatter(a, plane)
            for a in column[len(planes) :]:
                a.set_axis_off()
        handles, labels = axes[0, 0].get_legend_handles_labels()
        ncols = min(len(runs), 2)  # two columns need the width of two planes
        part.legend(handles, labels, loc="outside lower center", ncols=ncols, fontsize=7)

    return stacked(sizes, block)


def _scatter(a: "Axes", plane: pd.DataFrame) -> None:
    modalities = list(dict.fromkeys(plane["modality"]))
    for (part, number), marker in MARKERS.items():
        own = plane["modality"] == modalities[number]
        shown = plane[own & plane["part"].isin([part, "all"] if part == "common" else [part])]
        if len(shown):
            colour: dict[str, Any] = {
                "edgecolors" if "facecolors" in marker else "c": COLOURS[number]
            }
            label = f"{('first', 'second')[number]} modality, {shown['part'].iloc[0]}"
            a.scatter(shown["x"], shown["y"], label=label, **marker, **colour)
