"""Draw histograms of the overlap of two modalities' saliency, and list lifts (figure 5 left)."""

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import METRIC_NAMES, Experiment, scenario_name
from decur.tables.explained.products import Explained, by_scenario, explained, joined
from decur.tables.figures import STYLES, WIDTHS, Images, style, subplots
from decur.tables.gallery import NAMES
from decur.tables.pages import Heading, PagePart, Result, experiment_page, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGES = np.linspace(0, 1, 21)
LIFT = re.compile(r"(?P<modality>\S+) (?P<part>\S+) on (?P<factor>\S+)")


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the scores of all runs, with one line per pair.

    Raises:
        DecurError: a file is damaged.
    """
    results = explained(experiment, config, paths, [])
    page = experiment_page(experiment, config, _body(results))
    return Result(joined(results, ["sample"]), page, partial(draw, results, experiment))


def _body(results: list[Explained]) -> list[PagePart]:
    lines = [["Scenario", "Method", "Dimensions", "Pairs", "Mean score", "Score 0 [%]"]]
    for one in results:
        for part in one.parts:
            scores = one.frame[part]
            mean = f"{scores.mean():.3f} ± {scores.std():.3f}"
            place = [scenario_name(one.scenario), one.row, part, str(len(scores))]
            lines.append([*place, mean, f"{100 * (scores == 0).mean():.1f}"])
    note = (
        "The score measures how much the areas overlap that the Grad-CAM maps of both modalities "
        "highlight, from 0 to 1. Mean ± standard deviation over the pairs; one run per method, "
        "with the first seed. A score is 0 if one of the maps is empty or they do not overlap."
    )
    body = [grid(lines), note] if results else ["No results yet."]
    return [*body, *_known_factors(results)]


def _known_factors(results: list[Explained]) -> list[PagePart]:
    """Compare the maps with the changes caused by the factors of synthetic scenes."""
    lines = [["Scenario", "Method", "Modality", "Dimensions", "Factor", "Lift", "Maps"]]
    for one in results:
        for column in map(str, one.frame):
            name = LIFT.fullmatch(column)
            if name is None or not one.frame[column].notna().any():
                continue
            lifts = one.frame[column].dropna()
            modality = NAMES.get(name["modality"], name["modality"])
            factor = METRIC_NAMES[name["factor"]]
            place = [scenario_name(one.scenario), one.row, modality, name["part"], factor]
            error = lifts.std() / np.sqrt(len(lifts))
            lines.append([*place, f"{lifts.mean():.3f} ± {error:.3f}", str(len(lifts))])
    note = (
        "Lift: how much stronger a factor changes the image where the map is salient than on "
        "average, mean ± standard error; 1: the map is unrelated to the factor. The change is the "
        "difference between the scene and the same scene with another level of the factor. Empty "
        "maps do not count, nor do scenes where another level would change more than the factor."
    )
    return [Heading("Against the known factors"), grid(lines), note] if len(lines) > 1 else []


def draw(results: list[Explained], experiment: Experiment) -> Images:
    """Draw a subplot per scenario: a histogram per part, and its mean as a vertical line."""
    scenarios = list(by_scenario(results))
    rows = {row.label: row for row in experiment.rows}

    def fill(axes: "list[Axes]") -> None:
        for a, (scenario, runs) in zip(axes, scenarios, strict=True):
            a.set(title=scenario_name(scenario), xlabel="overlap of saliency", ylabel="pairs [%]")
            for one in runs:
                for part in one.parts:
                    colour = STYLES.get(f"decur {part}", style(rows[one.row])).colour
                    label = one.row if part == "all" else f"{one.row}, {part}"
                    _histogram(a, one.frame[part].to_numpy(), part, colour, label)

    return subplots(len(scenarios), WIDTHS["histogram"], fill)


def _histogram(a: "Axes", scores: Any, part: str, colour: str, label: str) -> None:
    share = 100 * np.histogram(scores, EDGES)[0] / len(scores)
    line = "--" if part == "all" else "-"
    if part == "unique":
        hatch, edge = STYLES["decur unique"].hatch, "#8a6d1f"
        filled: dict[str, Any] = {"fill": True, "hatch": hatch, "edgecolor": edge, "lw": 0.5}
        a.stairs(share, EDGES, label=label, facecolor=colour, **filled)
        colour, line = edge, ":"
    else:
        a.stairs(share, EDGES, label=label, color=colour, linewidth=1.4, linestyle=line, zorder=3)
    a.axvline(scores.mean(), color=colour, linestyle=line, linewidth=1, zorder=2)
