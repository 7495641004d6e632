"""The paper's tables and figures as data, and the runs that fill them.

An experiment has rows (a method and variant) and panels (a dataset, and what is measured on it);
their product is its cells. Experiments share runs: what two of them need exists once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from decur.config import (
    Config,
    Scenario,
    Strict,
    canonical_variant,
    first_problem,
    imagenet_file,
    starts_from_imagenet,
)
from decur.errors import DecurError
from decur.paths import Cell, Run

Column = tuple[str, float, str, str]
"""Panel, labels, protocol and metric: a column of a table, or a subplot of a curve."""

METRICS = {
    "map_micro": "mAP (micro)",
    "map_macro": "mAP (macro)",
    "map_micro_per_batch": "mAP (micro, mean of batches)",
    "miou": "mIoU",
    "miou_per_batch": "mIoU (mean of batches)",
    "accuracy": "pixel accuracy",
    "mean_accuracy": "mean class accuracy",
    "dominant_class": "class of most pixels",
    "common": "common factor",
    "unique1": "unique factor",
    "unique2": "unique factor",
}
ALL = 100
"""Percent of common dimensions without decoupling."""

SCENARIOS = {"sar-optical": "SAR-optical", "rgb-dem": "RGB-DEM", "rgb-depth": "RGB-depth"}

Protocol = Literal["linear", "fine-tune", "cmx", "knn", "probe", "probe-common", "probe-unique"]


class Row(Strict):
    """A line of a table, or a point of a curve (`x`); without a method only the paper's value.

    `scenario`, `modalities` and `protocol` override the panel's, `panels` and `scales` limit where
    the row appears.
    """

    label: str
    method: str | None = None
    variant: str = "default"
    scenario: Scenario | None = None
    modalities: str | None = None
    protocol: Protocol | None = None
    x: float | None = None
    paper: str | None = None
    panels: tuple[str, ...] | None = None
    scales: tuple[str, ...] | None = None


class Panel(Strict):
    """A group of columns: one dataset and choice of modalities, by labels, protocol and metric.

    `missing` is which of the modalities is absent in evaluation, and what replaces it: `sar/mean`.
    """

    label: str
    scenario: Scenario
    dataset: str
    modalities: str
    protocols: tuple[Protocol, ...]
    metrics: tuple[str, ...]
    labels: tuple[float, ...] = (100,)
    paper: str | None = None
    missing: str | None = Field(None, pattern="^[a-z0-9-]+/(zeros|mean)$")

    @model_validator(mode="after")
    def _missing_is_one_of_several(self) -> Self:
        present = self.modalities.split("+")
        if self.missing and (len(present) < 2 or self.missing.split("/")[0] not in present):
            raise ValueError(f"missing: '{self.missing}' is not of one of several {present}")
        return self


class Experiment(Strict):
    """One table, curve, alignment histogram, gallery of predictions or estimate of a share.

    `seeds` limits how many of the scale's it uses; `stage` is where the report shows it.
    """

    title: str
    caption: str
    stage: Literal["transfer", "ablations", "explain"] = "transfer"
    kind: Literal["table", "curve", "histogram", "gallery", "share"] = "table"
    rows: tuple[Row, ...]
    panels: tuple[Panel, ...]
    x_label: str = ""
    seeds: int | None = None


@dataclass(frozen=True)
class Entry:
    """One cell of a table: what stands in it, and the runs (one a seed) that measure it.

    `runs` is empty where the scale does not include the row's method, or the scenario has no file
    of the ImageNet weights that it starts from.
    """

    row: Row
    panel: Panel
    cell: Cell
    protocol: Protocol
    metric: str
    runs: tuple[Run, ...]


def load_experiments(path: Path | str) -> dict[str, Experiment]:
    """Read `experiments.yaml`.

    Raises:
        DecurError: naming the file, the experiment and the first wrong key.
    """
    path = Path(path)
    if not path.is_file():
        raise DecurError(f"{path}: no such file")
    experiments = {}
    for name, tree in yaml.safe_load(path.read_text()).items():
        if name.startswith("."):
            continue
        try:
            experiments[name] = Experiment.model_validate(tree)
        except ValidationError as error:
            raise DecurError(first_problem(error, f"{path}: {name}")) from None
    return experiments


def chosen_experiments(experiments: dict[str, Experiment], config: Config) -> dict[str, Experiment]:
    """The experiments that the config asks for, in its order.

    Raises:
        DecurError: the config names an experiment that is not declared, or a gallery of
            predictions that no transfer keeps.
    """
    for name in config.experiments:
        if name not in experiments:
            raise DecurError(f"experiments: '{name}' is not declared in experiments.yaml")
        if experiments[name].kind == "gallery":
            _check_gallery(name, experiments[name], config)
    return {name: experiments[name] for name in config.experiments}


def _check_gallery(name: str, experiment: Experiment, config: Config) -> None:
    for entry in entries(experiment, config):
        dataset, panel = entry.cell.dataset, f"experiments: gallery '{name}', {entry.panel.label}"
        recipe = config.transfer.get(dataset)
        probed = entry.cell.protocol.startswith("probe")
        if recipe is None or recipe.task != "segmentation" or probed or entry.panel.missing:
            raise DecurError(f"{panel}: only segmentations with all modalities there are shown")
        if recipe.predictions == "none":
            raise DecurError(f"{panel}: no predictions; set transfer.{dataset}.predictions")


def entries(experiment: Experiment, config: Config) -> list[Entry]:
    """All cells of an experiment, row by row, in the panels whose scenario the config has."""
    found = []
    for row, panel in product(experiment.rows, experiment.panels):
        if panel.scenario not in config.scenarios:
            continue
        if row.panels is not None and panel.label not in row.panels:
            continue
        if row.scales is not None and config.scale not in row.scales:
            continue
        runs = _runs(row, row.scenario or panel.scenario, config)[: experiment.seeds]
        modalities = row.modalities or panel.modalities
        for labels, protocol, metric in product(panel.labels, panel.protocols, panel.metrics):
            cell = Cell(panel.dataset, modalities, row.protocol or protocol, labels)
            found.append(Entry(row, panel, cell, protocol, metric, runs))
    return found


def _runs(row: Row, scenario: Scenario, config: Config) -> tuple[Run, ...]:
    if row.method not in config.methods or scenario not in config.scenarios:
        return ()
    file = imagenet_file(config.scenarios[scenario].pretrain, row.variant)
    if starts_from_imagenet(row.method, row.variant) and file is None:
        return ()
    variant = canonical_variant(config, scenario, row.variant)
    return tuple(Run(scenario, row.method, variant, seed) for seed in config.seeds)


def transfer_runs(experiments: Iterable[Experiment], config: Config) -> dict[Run, list[Cell]]:
    """Which transfer cells the tables, curves and galleries ask of each pretraining run."""
    wanted: dict[Run, set[Cell]] = {}
    for experiment in experiments:
        if experiment.kind == "histogram":
            continue
        for entry in entries(experiment, config):
            for run in entry.runs:
                wanted.setdefault(run, set()).add(entry.cell)
    return {run: sorted(cells) for run, cells in sorted(wanted.items())}


def alignment_runs(experiments: Iterable[Experiment], config: Config) -> list[Run]:
    """The pretraining runs whose alignment a histogram shows."""
    found = {
        run
        for experiment in experiments
        if experiment.kind == "histogram"
        for entry in entries(experiment, config)
        for run in entry.runs
    }
    return sorted(found)


def share_runs(experiment: Experiment, config: Config) -> list[tuple[float, Run]]:
    """The runs that a share is estimated from: those of the grid, with the share of each (`x`).

    Where all dimensions are common, of every seed of the scale, however few `seeds` the grid has:
    table 4 needs these runs anyway.
    """
    found: set[tuple[float, Run]] = set()
    if experiment.kind == "share":
        for entry in entries(experiment.model_copy(update={"seeds": None}), config):
            x, seeds = entry.row.x or 0, experiment.seeds
            found |= {(x, run) for run in entry.runs[: None if x == ALL else seeds]}
    return sorted(found)


def column_parts(column: Column) -> list[str]:
    """Panel, labels, protocol and metric of a column, as they are read."""
    panel, labels, protocol, metric = column
    how = [] if protocol.startswith("probe") else [f"{labels:g} % labels", protocol]
    return [panel, *how, METRICS.get(metric, metric)]


def scenario_name(scenario: str) -> str:
    """A scenario as the paper writes it."""
    return SCENARIOS.get(scenario, scenario)
