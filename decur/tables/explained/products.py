"""Read the CSV files that explainers wrote for an experiment's runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from decur.artifacts.paths import Paths, Run
from decur.artifacts.provenance import read_json
from decur.config import EXPLAINERS, Config
from decur.config.experiments import Experiment, entries, scenario_name
from decur.errors import DecurError

TEXT = ("part", "modality", "band", "sample")
"""Columns with names, which may look like numbers."""

PARTS = ("common", "unique", "all")
"""Parts of an embedding, in display order."""


class Explained(NamedTuple):
    """An explainer's result for a run, with the scenario and row of the experiment."""

    scenario: str
    row: str
    run: Run
    frame: pd.DataFrame
    facts: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """The parts of the embedding in the result."""
        return _parts(self.frame)

    @property
    def title(self) -> str:
        """Scenario and row, as a title."""
        return f"{scenario_name(self.scenario)}, {self.row}"


def explained(
    experiment: Experiment, config: Config, paths: Paths, numbers: Sequence[str] | None
) -> list[Explained]:
    """Read the available results, from the first finished run of each scenario and row.

    `numbers` are columns that must be complete; None accepts any table.

    Raises:
        DecurError: a file is damaged.
    """
    by_place: dict[tuple[str, str], Explained] = {}
    for entry in entries(experiment, config):
        place = entry.row.scenario or entry.panel.scenario, entry.row.label
        for run in () if place in by_place else entry.runs:
            path = Path(paths.explain(str(run), experiment.kind))
            record = path.with_suffix(".json")  # the record is written last
            if record.is_file():
                facts = read_json(record).get("facts", {})
                by_place[place] = Explained(*place, run, _read(path, numbers), facts)
                break
    order = list(dict.fromkeys(scenario for scenario, _ in by_place))
    return sorted(by_place.values(), key=lambda one: order.index(one.scenario))


def joined(results: Sequence[Explained], columns: Sequence[str]) -> pd.DataFrame:
    """Join results into a frame of scenario, row and their columns; by default `columns`."""
    frames = [one.frame.assign(scenario=one.scenario, label=one.row) for one in results]
    if not frames:
        return pd.DataFrame(columns=["scenario", "row", *columns])
    frame = pd.concat(frames, ignore_index=True).rename(columns={"label": "row"})
    return frame[["scenario", "row", *(c for c in frame if c not in ("scenario", "row"))]]


def by_scenario(results: Sequence[Explained]) -> Iterator[tuple[str, list[Explained]]]:
    """Group the results by scenario."""
    for scenario in dict.fromkeys(one.scenario for one in results):
        yield scenario, [one for one in results if one.scenario == scenario]


def part_means(path: Path) -> dict[str, float]:
    """Average the score of each part in the CSV file of an explainer, for use in claims.

    Raises:
        DecurError: the file is damaged.
    """
    score = EXPLAINERS[path.stem].score
    if score is not None and score.column is not None:
        means = _read(path, [score.column]).groupby("part")[score.column].mean()
    else:
        frame = _read(path, [])
        means = frame[[part for part in PARTS if part in frame]].mean()
    return {str(part): float(mean) for part, mean in means.items()}


def _parts(frame: pd.DataFrame) -> list[str]:
    """List the parts in the column `part`, or among the names of columns."""
    names = {*frame.columns, *(frame["part"].unique() if "part" in frame else ())}
    return [part for part in PARTS if part in names]


def _read(path: Path, numbers: Sequence[str] | None) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
        if numbers is None:
            return frame
        needed = [*numbers, *(part for part in PARTS if part in frame)]
        finite = bool(np.isfinite(frame[needed]).all(axis=None))
        is_complete = len(frame) > 0 and bool(_parts(frame)) and finite
    except (ValueError, KeyError, TypeError):
        is_complete = False
    if not is_complete:
        raise DecurError(f"{path}: is damaged; delete it and run the explain stage again")
    return frame
