"""The explainers' CSV files of an experiment's runs, as one table."""

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
"""Columns of names, which may look like numbers."""

PARTS = ("common", "unique", "all")
"""Parts of an embedding, in the order in which they are shown."""


class Explained(NamedTuple):
    """What an explainer found of a run, and which scenario and row of the experiment that is."""

    scenario: str
    row: str
    run: Run
    frame: pd.DataFrame
    facts: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """The parts of the embedding that there are."""
        return _parts(self.frame)

    @property
    def title(self) -> str:
        """Scenario and row, as they are read."""
        return f"{scenario_name(self.scenario)}, {self.row}"


def explained(
    experiment: Experiment, config: Config, paths: Paths, numbers: Sequence[str] | None
) -> list[Explained]:
    """What there is so far, of the first run found of each scenario and row.

    `numbers` are columns that every line must fill; None takes any table.

    Raises:
        DecurError: a file is damaged.
    """
    found: dict[tuple[str, str], Explained] = {}
    for entry in entries(experiment, config):
        place = entry.row.scenario or entry.panel.scenario, entry.row.label
        for run in () if place in found else entry.runs:
            path = Path(paths.explain(str(run), experiment.kind))
            record = path.with_suffix(".json")  # which is written last
            if record.is_file():
                facts = read_json(record).get("facts", {})
                found[place] = Explained(*place, run, _read(path, numbers), facts)
                break
    order = list(dict.fromkeys(scenario for scenario, _ in found))
    return sorted(found.values(), key=lambda one: order.index(one.scenario))


def joined(found: Sequence[Explained], columns: Sequence[str]) -> pd.DataFrame:
    """All of it as one table, scenario and row before the columns; those alone if it is empty."""
    frames = [one.frame.assign(scenario=one.scenario, label=one.row) for one in found]
    if not frames:
        return pd.DataFrame(columns=["scenario", "row", *columns])
    frame = pd.concat(frames, ignore_index=True).rename(columns={"label": "row"})
    return frame[["scenario", "row", *(c for c in frame if c not in ("scenario", "row"))]]


def by_scenario(found: Sequence[Explained]) -> Iterator[tuple[str, list[Explained]]]:
    """The rows of each scenario."""
    for scenario in dict.fromkeys(one.scenario for one in found):
        yield scenario, [one for one in found if one.scenario == scenario]


def part_means(path: Path) -> dict[str, float]:
    """The mean score of each part, of the CSV of an explainer whose scores claims compare.

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
    """The parts that lines are of, or that columns are named by."""
    known = {*frame.columns, *(frame["part"].unique() if "part" in frame else ())}
    return [part for part in PARTS if part in known]


def _read(path: Path, numbers: Sequence[str] | None) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
        if numbers is None:
            return frame
        needed = [*numbers, *(part for part in PARTS if part in frame)]
        finite = bool(np.isfinite(frame[needed]).all(axis=None))
        whole = len(frame) > 0 and bool(_parts(frame)) and finite
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DecurError(f"{path}: is damaged; delete it and run the explain stage again")
    return frame
