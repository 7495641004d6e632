"""Show the CSV lines of an explainer that has no page of its own."""

import pandas as pd

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Experiment, scenario_name
from decur.tables.explained.products import explained, joined
from decur.tables.pages import Result, Table, experiment_page, grid

MOST = 50
"""Most lines on the page; the experiment's CSV file has all lines."""


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Join the lines of every run.

    Raises:
        DecurError: a file is damaged.
    """
    frame = joined(explained(experiment, config, paths, None), [])
    return Result(frame, experiment_page(experiment, config, _body(frame)), float_format="%.6g")


def _body(frame: pd.DataFrame) -> list[Table | str]:
    if frame.empty:
        return ["No results yet."]
    head = ["Scenario", "Method", *map(str, frame.columns[2:])]
    lines = [
        [scenario_name(str(scenario)), str(row), *map(_text, values)]
        for scenario, row, *values in frame.head(MOST).itertuples(index=False)
    ]
    note = (
        f"One run per method, with the first seed; {min(MOST, len(frame))} of {len(frame)} lines."
    )
    return [grid([head, *lines]), note]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
