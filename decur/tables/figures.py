"""Draw experiments' figures as PNG and SVG: curves, and the functions that all figures share.

Each method has its own colour, marker and hatch, which also differ in greyscale. Equal numbers give
files with equal bytes.
"""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from decur.config.experiments import ALL, Experiment, Row, column_parts
from decur.config.protocols import PROTOCOLS
from decur.tables.paper import best_share

if TYPE_CHECKING:  # matplotlib is slow to load, and only drawing needs it
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class Style(NamedTuple):
    """The colour, marker and hatch of a method."""

    colour: str
    marker: str
    hatch: str


STYLES = {
    "random": Style("#d0d0d0", "x", ""),
    "supervised": Style("#808080", "+", ".."),
    "imagenet": Style("#f0e442", "*", "oo"),
    "simclr": Style("#56b4e9", "v", "xx"),
    "clip": Style("#cc79a7", "^", "++"),
    "vicreg": Style("#009e73", "D", "--"),
    "barlow-twins": Style("#0072b2", "s", "//"),
    "barlow-twins-single": Style("#004c78", "P", "||"),
    "decur": Style("#d55e00", "o", ""),
    "decur all common": Style("#e69f00", "h", "//"),
    "decur common": Style("#d55e00", "o", ""),
    "decur unique": Style("#f7c873", "o", "\\\\\\"),
}
"""Styles of the methods, of DeCUR without decoupling, and of DeCUR's common and unique dimensions
where they are shown alone."""

OTHER = Style("#000000", "d", "**")

ESTIMATES = {"alignment": ("#0072b2", "-"), "canonical": ("#009e73", "-.")}
"""Colours and lines of the estimates of the share of common dimensions."""

FORMATS = {"figure": "png", "vector": "svg"}
"""The outputs of a figure, and their file formats."""

Images = dict[str, bytes]
"""The files of a figure, by kind of output."""

WIDTHS = {"curve": 3.0, "plane": 2.3, "histogram": 2.4}
HEIGHT = 2.3
"""Size of a subplot in inches; two or three side by side fill the text width of a paper."""

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.w_pad": 0.08,
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # keep text as text, so that a paper can use its own font
    "svg.hashsalt": "decur",  # otherwise the names of parts change with each drawing
}


def style(row: Row) -> Style:
    """Choose the style of a row by its method, or by the dimensions that it or its probe uses."""
    if f"common-{ALL}" in row.variant.split("_"):
        return STYLES["decur all common"]
    part = PROTOCOLS[row.protocol].part if isinstance(row.protocol, str) else None
    if part is not None:
        return STYLES[f"decur {part}"]
    return style_of(row.method or "random")


def style_of(method: str) -> Style:
    """Return the style of a method; black for unknown methods."""
    return STYLES.get(method, OTHER)


def subplots(
    count: int, width: float, draw: Callable[[list["Axes"]], None], columns: int | None = None
) -> Images:
    """Draw `count` subplots with `draw`, `columns` per row, with one legend below."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", RC]):  # independent of the user's matplotlibrc
        across = max(1, min(count, columns or count))
        down = max(1, -(-count // across))
        size = (width * across, HEIGHT * down)
        figure = Figure(figsize=size, layout="constrained")
        axes = list(figure.subplots(down, across, squeeze=False).flat)
        for unused in axes[max(count, 1) :]:
            unused.remove()
        axes = axes[: max(count, 1)]
        draw(axes[:count])
        for empty in (a for a in axes if not a.has_data()):
            empty.text(0.5, 0.5, "no results yet", transform=empty.transAxes, ha="center")
            empty.grid(visible=False)
        named: dict[str, Artist] = {}
        for a in axes:
            for handle, label in zip(*a.get_legend_handles_labels(), strict=True):
                named.setdefault(label, handle)
        if named:
            figure.legend(
                list(named.values()),
                list(named),
                loc="outside lower center",
                ncols=min(len(named), int(size[0] / 0.95)),
            )
        return rendered(figure)


def stacked(
    sizes: Sequence[tuple[float, float]], draw: Callable[[int, "SubFigure"], None]
) -> Images:
    """Draw blocks in a column, each with `draw`; `sizes` are widths and heights in inches."""
    import matplotlib.style
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    with matplotlib.style.context(["default", RC]):
        heights = [height for _, height in sizes]
        width = max((width for width, _ in sizes), default=4.0)
        figure = Figure(figsize=(width, sum(heights) or 2.0), layout=layout)
        if sizes:
            parts = figure.subfigures(len(sizes), height_ratios=heights, squeeze=False)[:, 0]
            for number, part in enumerate(parts):
                draw(number, part)
        else:
            figure.text(0.5, 0.5, "no results yet", ha="center")
        return rendered(figure)


def rendered(figure: "Figure") -> Images:
    """Render a figure as PNG (screens) and SVG (papers); equal figures give equal bytes."""
    nameless = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}
    images = {}
    for kind, suffix in FORMATS.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=nameless[suffix])
        images[kind] = buffer.getvalue()
        figure.set_layout_engine("none")  # keep the layout for the next format
    return images


def curves(
    frame: pd.DataFrame,
    experiment: Experiment,
    estimates: pd.DataFrame | None = None,
    *,
    papers: bool = True,
) -> Images:
    """Draw mean and standard deviation over x, a subplot per panel, labels, protocol and metric.

    The marker of the best x is filled, x = 0 ("none") is separate, and a dashed line is the paper's
    best share.

    Args:
        frame: the scores, as returned by `decur.tables.results.collate`.
        experiment: provides the label of x, and the scenarios of the panels.
        estimates: estimates of the best share (scenario, estimate, seed, share in percent); their
            mean and range over the seeds are drawn.
        papers: whether the paper's best share is drawn.
    """
    columns: list[Any] = list(frame.groupby(["panel", "labels", "protocol", "metric"], sort=False))
    scenarios = {panel.label: panel.scenario for panel in experiment.panels}
    of_shares = all("common-" in row.variant for row in experiment.rows)

    def draw(axes: list["Axes"]) -> None:
        for a, (column, points) in zip(axes, columns, strict=True):
            *measured, metric = column_parts(column)
            a.set(title=", ".join(measured), xlabel=experiment.x_label, ylabel=f"{metric} [%]")
            _curve(a, points[points["n"] > 0])
            if of_shares and papers:
                _mark_share(a, best_share(scenarios[column[0]]))
            if estimates is not None:
                _mark_estimates(a, estimates[estimates["scenario"] == scenarios[column[0]]])

    return subplots(len(columns), WIDTHS["curve"], draw)


def _mark_share(a: "Axes", share: float | None) -> None:
    if share is not None:
        a.axvline(share, color="#808080", linestyle="--", linewidth=0.9, label="paper's best share")


def _mark_estimates(a: "Axes", estimates: pd.DataFrame) -> None:
    for name, lines in estimates.dropna(subset="share").groupby("estimate", sort=False):
        share, (colour, line) = lines["share"], ESTIMATES[str(name)]
        a.axvspan(share.min(), share.max(), color=colour, alpha=0.2, linewidth=0)
        a.axvline(
            share.mean(), color=colour, linestyle=line, linewidth=1.2, label=f"estimate: {name}"
        )


def _curve(a: "Axes", points: pd.DataFrame) -> None:
    if points.empty:
        return
    x, mean = points["x"].to_numpy(), points["ours_mean"].to_numpy()
    spread = points["ours_std"].to_numpy()
    ticks = [f"{value:g}" if value else "none" for value in x]
    none = x == 0
    powers = np.log2(x[~none])
    if len(powers) and np.all(powers % 1 == 0):  # embedding dimensions, not shares
        a.set_xscale("log", base=2)
        x = np.where(none, x[~none].min() / 2, x)
    a.set_xticks(x, ticks)
    a.minorticks_off()
    colour, marker, _ = STYLES["decur"]
    a.errorbar(x, mean, spread, fmt="none", ecolor=colour, capsize=2.5, linewidth=1.2)
    line: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.2}
    a.plot(x[~none], mean[~none], markerfacecolor="white", label="DeCUR", **line)
    top = mean.argmax()
    a.plot(x[top], mean[top], label="best", linestyle="", markersize=8, zorder=4, **line)
    if none.any():
        a.plot(x[none], mean[none], markerfacecolor="white", zorder=3, **line)
        a.axhline(mean[none][0], color=colour, linestyle=":", linewidth=0.9, label="no projector")
