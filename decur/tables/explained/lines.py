"""The results of an explainer without a page of its own: the lines of its CSV files."""

import pandas as pd

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Experiment, scenario_name
from decur.tables.explained.products import explained, joined
from decur.tables.pages import Result, Table, experiment_page, grid

MOST = 50
"""Lines that the page shows; the experiment's CSV has all."""


def result(experiment: Experiment, config: Config, paths: Paths) -> Result:
    """Join the lines of every run; raises a DecurError if a file is damaged."""
    frame = joined(explained(experiment, config, paths, None), [])
    return Result(frame, experiment_page(experiment, config, _body(frame)), float_format="%.6g")


def _body(frame: pd.DataFrame) -> list[Table | str]:
    if frame.empty:
        return ["Nothing has been explained yet."]
    head = ["Scenario", "Method", *map(str, frame.columns[2:])]
    lines = [
        [scenario_name(str(scenario)), str(row), *map(_text, values)]
        for scenario, row, *values in frame.head(MOST).itertuples(index=False)
    ]
    note = f"One run a method, the first seed's; {min(MOST, len(frame))} of {len(frame)} lines."
    return [grid([head, *lines]), note]


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
