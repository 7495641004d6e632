"""Compare estimates of the best share of common dimensions with a grid search."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import ALL, Experiment, column_parts, scenario_name, share_runs
from decur.errors import DecurError
from decur.tables.figures import curves
from decur.tables.pages import Page, PagePart, Result, experiment_page, grid, is_comparable
from decur.tables.paper import best_share
from decur.tables.results import collate

COLUMN = ["panel", "labels", "protocol", "metric"]
BEST, PAPER = "best of the grid", "paper's best"
KEPT = ["scenario", *COLUMN, "source", "share", "std", "n", "score", "behind"]


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Collate the grid of shares and the estimates.

    Raises:
        DecurError: a file is damaged.
    """
    grid_of_shares = collate(experiment, config, paths)
    estimated = estimates(experiment, config, paths)
    frame = compare(grid_of_shares, estimated, experiment)
    page = share_page(frame, estimated, experiment, config)
    marked = is_comparable(experiment, config)
    draw = partial(curves, grid_of_shares, experiment, of_all_common(estimated), papers=marked)
    return Result(frame, page, draw)


def estimates(experiment: Experiment, config: Config, paths: Paths) -> pd.DataFrame:
    """Read the available estimates: scenario, x, estimate, seed, share in percent.

    `x` is the percentage of common dimensions in the run of an estimate.

    Raises:
        DecurError: a file of estimates is damaged.
    """
    lines = []
    for x, run in share_runs(experiment, config):
        path = Path(paths.explain(str(run), "share"))
        if path.is_file():
            for name, share in _read(path).items():
                lines.append((run.scenario, x, name, run.seed, 100 * share))
    return pd.DataFrame(lines, columns=["scenario", "x", "estimate", "seed", "share"])


def of_all_common(estimated: pd.DataFrame) -> pd.DataFrame:
    """Select the estimates from runs whose dimensions are all common."""
    return estimated[estimated["x"] == ALL]


def _read(path: Path) -> "pd.Series[float]":
    try:
        return pd.read_csv(path).set_index("estimate")["share"].astype(float)
    except (ValueError, KeyError):
        raise DecurError(
            f"{path}: has no estimates; delete it and run the explain stage again"
        ) from None


def compare(curves: pd.DataFrame, estimated: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """List the grid, its best share, the estimates and the paper's best, per measured column.

    Args:
        curves: the grid, as returned by `decur.tables.results.collate`.
        estimated: the estimates, as returned by `estimates`.
        experiment: provides the scenarios of the panels.

    Columns: scenario, panel, labels, protocol, metric, source (`grid` for each tried share), share
    in percent, std (sample standard deviation) and n of its seeds, score (our score at that share,
    by linear interpolation in the grid), behind (the best score minus this score).
    """
    scenarios = {panel.label: panel.scenario for panel in experiment.panels}
    lines: list[dict[str, Any]] = []
    for key, column in curves.groupby(COLUMN, sort=False):
        scenario = scenarios[str(key[0])]
        place = {"scenario": scenario, **dict(zip(COLUMN, key, strict=True))}
        points = column[column["n"] > 0].sort_values("x")
        for source, share, std, n in _sources(points, estimated, scenario):
            score = _score(points, share)
            behind = points["ours_mean"].max() - score
            lines.append(
                {**place, "source": source, "share": share, "std": std, "n": n}
                | {"score": score, "behind": behind}
            )
    return pd.DataFrame(lines, columns=KEPT)


def _sources(
    points: pd.DataFrame, estimated: pd.DataFrame, scenario: str
) -> list[tuple[str, float, float, int]]:
    """List the sources of shares: name, share, deviation over the seeds, and number of seeds."""
    sources = [("grid", float(x), math.nan, int(n)) for x, n in points[["x", "n"]].to_numpy()]
    if len(points):
        best = points.iloc[int(points["ours_mean"].to_numpy().argmax())]
        sources.append((BEST, float(best["x"]), math.nan, int(best["n"])))
    own_scenario = of_all_common(estimated[estimated["scenario"] == scenario])
    for name, own in own_scenario.groupby("estimate", sort=False):
        shares = own["share"].dropna()
        if len(shares):
            sources.append((f"estimate: {name}", shares.mean(), shares.std(), len(shares)))
    paper = best_share(scenario)
    return sources if paper is None else [*sources, (PAPER, paper, math.nan, 0)]


def _score(points: pd.DataFrame, share: float) -> float:
    """Interpolate our score at a share; NaN outside the grid."""
    if points.empty:
        return math.nan
    x, y = points["x"].to_numpy(), points["ours_mean"].to_numpy()
    return float(np.interp(share, x, y, left=math.nan, right=math.nan))


def share_page(
    frame: pd.DataFrame, estimated: pd.DataFrame, experiment: Experiment, config: Config
) -> Page:
    """Turn the comparison into a page.

    It shows each source's share and our score at that share, and how the estimates depend on the
    share of their run.
    """
    lines = [["Measured", "Share from", "Common [%]", "Score", "Behind the best"]]
    compared: list[Any] = list(frame[frame["source"] != "grid"].itertuples())
    for c in compared:
        measured = ", ".join(column_parts((c.panel, c.labels, c.protocol, c.metric)))
        share = f"{c.share:.1f}" + ("" if math.isnan(c.std) else f" ± {c.std:.1f}")
        lines.append([measured, c.source, share, *map(_number, (c.score, c.behind))])
    note = (
        "Estimates: from the runs whose dimensions are all common, mean ± sample standard "
        "deviation of the seeds. Score: our score at that share, by linear interpolation in the "
        "grid. –: outside the grid. A grid with one seed is noisy itself."
    )
    body: list[PagePart] = [grid(lines), note] if len(lines) > 1 else ["No results yet."]
    if len(estimated):
        body += [
            "Estimates in percent, by the share of common dimensions of the run:",
            grid(_by_run(estimated)),
        ]
    return experiment_page(experiment, config, body)


def _by_run(estimated: pd.DataFrame) -> list[list[str]]:
    names = list(dict.fromkeys(estimated["estimate"]))
    lines = [["Scenario", "Common dimensions of the run [%]", *names]]
    means = estimated.groupby(["scenario", "x", "estimate"])["share"].mean()
    for scenario, x in dict.fromkeys((s, x) for s, x, _ in means.index):
        numbers = [means.get((scenario, x, name), math.nan) for name in names]
        texts = ["–" if math.isnan(value) else f"{value:.0f}" for value in numbers]
        lines.append([scenario_name(scenario), f"{x:g}", *texts])
    return lines


def _number(value: Any) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"
