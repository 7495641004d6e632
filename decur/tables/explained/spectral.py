"""Compare attributions of bands with the paper's numbers and known factors (figure 5 right)."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import METRIC_NAMES, Experiment, scenario_name
from decur.tables.explained.products import Explained, explained, joined
from decur.tables.figures import HEIGHT, STYLES, Images, Style, stacked, style
from decur.tables.gallery import NAMES
from decur.tables.pages import Heading, PagePart, Result, experiment_page, grid, is_comparable
from decur.tables.paper import band_saliency

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = ["modality", "part", "band", "attribution", "relative", "paper", "paper_relative"]
FACTORS = ("common", "unique1", "unique2")
FEWEST = 4
"""Fewest bands whose ranks are compared: fewer often have the same order by chance."""


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the attributions of all runs.

    Raises:
        DecurError: a file is damaged.
    """
    results = explained(experiment, config, paths, ["attribution"])
    known = is_comparable(experiment, config)
    results = [one._replace(frame=beside_paper(one, known=known)) for one in results]
    page = experiment_page(experiment, config, _body(results))
    return Result(joined(results, COLUMNS), page, partial(draw, results, experiment), "%.4g")


def beside_paper(one: Explained, *, known: bool = True) -> pd.DataFrame:
    """Add attributions relative to the largest of the modality, and the paper's numbers.

    New columns: relative, paper (raw) and paper_relative; NaN if the paper lacks the band, or if
    its numbers are not `known` for these data.
    """
    paper = band_saliency(scenario_name(one.scenario)) if known else {}
    lines = one.frame.copy()
    largest = lines.groupby("modality")["attribution"].transform("max")
    lines["relative"] = lines["attribution"] / largest
    lines["paper"] = [
        paper.get((modality, part, band), math.nan)
        for modality, part, band in lines[["modality", "part", "band"]].itertuples(index=False)
    ]
    lines["paper_relative"] = lines["paper"] / lines.groupby("modality")["paper"].transform("max")
    return lines


def _body(results: list[Explained]) -> list[PagePart]:
    body: list[PagePart] = []
    beside = any(one.frame["paper"].notna().any() for one in results)
    for one in results:
        for modality, lines in one.frame.groupby("modality", sort=False):
            table = lines.pivot(index="band", columns="part", values="relative")
            paper = lines.pivot(index="band", columns="part", values="paper_relative")
            quoted = [part for part in one.parts if paper[part].notna().any()]
            rows = [["Band", *one.parts, *(f"{part}, paper" for part in quoted)]]
            for band in dict.fromkeys(lines["band"]):
                numbers = [*table.loc[band, one.parts], *paper.loc[band, quoted]]
                rows.append([str(band), *(f"{number:.2f}" for number in numbers)])
            heading = f"{one.title}: {NAMES.get(str(modality), modality)}"
            body += [Heading(heading), grid(rows)]
        error = 100 * one.facts.get("completeness_error", math.nan)
        body.append(
            f"Completeness error: the attributions miss the output's difference by {error:.2g} %."
        )
    body.append(
        "Mean absolute integrated gradient per pixel of the band, relative to the largest of the "
        "modality, so that common and unique dimensions are comparable; one run per method, with "
        "the first seed."
        + (
            " The paper's numbers are the raw values of its figure, scaled likewise."
            if beside
            else ""
        )
    )
    return [*body, *_known_factors(results)] if results else ["No results yet."]


def rank_correlation(lines: pd.DataFrame, change: str) -> float:
    """Compute Spearman's correlation of attribution and the column `change`; NaN below 4 bands."""
    from scipy.stats import spearmanr

    if len(lines) < FEWEST:
        return math.nan
    return float(spearmanr(lines["attribution"], lines[change]).statistic)


def mean_lift(lines: pd.DataFrame, factor: str) -> float:
    """Average the bands' lifts, weighted by attribution; NaN without any."""
    counted = lines[lines[f"lift_{factor}"].notna() & (lines["attribution"] > 0)]
    if counted.empty:
        return math.nan
    return float(np.average(counted[f"lift_{factor}"], weights=counted["attribution"]))


def _known_factors(results: list[Explained]) -> list[PagePart]:
    """Compare the attributions with the changes caused by the factors of synthetic scenes."""
    rows = [["Scenario", "Method", "Modality", "Dimensions", "Factor", "Rank correlation", "Lift"]]
    for one in results:
        groups: Any = one.frame.groupby(["modality", "part"], sort=False)
        for (modality, part), lines in groups:
            for factor in FACTORS:
                if f"change_{factor}" not in lines or lines[f"change_{factor}"].isna().any():
                    continue
                ranks = rank_correlation(lines, f"change_{factor}")
                rank = "–" if math.isnan(ranks) else f"{ranks:.2f}"
                place = [scenario_name(one.scenario), one.row, NAMES.get(modality, modality), part]
                rows.append([*place, METRIC_NAMES[factor], rank, f"{mean_lift(lines, factor):.3f}"])
    note = (
        "Rank correlation, for modalities with four bands or more: between a band's attribution "
        "and the mean change that another level of the factor causes in the band. All factors "
        "change bright bands more than dark ones, so a high number means that informative bands "
        "are found, but not which factor they show. Lift: how much stronger the factor changes a "
        "band where attributions are high than on average, weighted over the bands by attribution; "
        "1: the attributions are unrelated to where the factor acts."
    )
    return [Heading("Against the known factors"), grid(rows), note] if len(rows) > 1 else []


def draw(results: list[Explained], experiment: Experiment) -> Images:
    """Draw a block per run: a subplot per modality, bars per band, the paper's numbers as marks."""
    rows = {row.label: row for row in experiment.rows}
    bands = [one.frame.groupby("modality", sort=False)["band"].nunique() for one in results]
    widths = [sum(counts + 1.5) for counts in bands]
    sizes = [(0.5 + 0.34 * width, HEIGHT) for width in widths]

    def block(number: int, figure: "SubFigure") -> None:
        one = results[number]
        figure.suptitle(one.title, fontsize=9)
        rest = max(widths) - widths[number]  # so that all bars of the figure are equally wide
        ratios = [*(bands[number] + 1.5), *([rest] if rest else [])]
        axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios, sharey=True)[0]
        for a in axes[len(bands[number]) :]:
            a.set_axis_off()
        groups: Any = one.frame.groupby("modality", sort=False)
        for a, (modality, lines) in zip(axes, groups, strict=False):
            a.set(title=NAMES.get(modality, modality), ylim=(0, 1.05))
            for place, part in enumerate(one.parts):
                part_style = STYLES.get(f"decur {part}", style(rows[one.row]))
                label = part if len(one.parts) > 1 else one.row
                _bars(a, lines[lines["part"] == part], place, len(one.parts), part_style, label)
        axes[0].set_ylabel("relative attribution")
        named = {t: h for a in axes for h, t in zip(*a.get_legend_handles_labels(), strict=True)}
        figure.legend(
            list(named.values()), list(named), loc="outside lower center", ncols=4, fontsize=7
        )

    return stacked(sizes, block)


def _bars(
    a: "Axes", lines: pd.DataFrame, place: int, count: int, part_style: Style, label: str
) -> None:
    x = np.arange(len(lines)) + (place - (count - 1) / 2) * 0.8 / count
    bar: dict[str, Any] = {"color": part_style.colour, "hatch": part_style.hatch}
    bar |= {"edgecolor": "black", "linewidth": 0.5}
    a.bar(x, lines["relative"], width=0.8 / count, label=label, **bar)
    if lines["paper_relative"].notna().any():
        mark: dict[str, Any] = {
            "marker": "Dv"[place],
            "color": "white",
            "edgecolors": "black",
            "linewidths": 0.7,
        }
        a.scatter(x, lines["paper_relative"], s=14, zorder=3, label=f"{label}, paper", **mark)
    turned = len(lines) > FEWEST
    a.set_xticks(range(len(lines)), list(lines["band"]), rotation=60 if turned else 0)
    if max(map(len, lines["band"])) > 5 and not turned:
        a.tick_params(axis="x", labelsize=6)
