"""The paper's tables and figures as data, and the runs that fill them.

An experiment has rows (a method and variant) and panels (a dataset, and what is measured on it);
their product is its cells. Experiments share runs: what two of them need exists once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from decur.artifacts.paths import Cell, Run
from decur.config import (
    EXPLAINERS,
    Config,
    Scenario,
    Strict,
    canonical_variant,
    check_recipe,
    first_problem,
    imagenet_file,
    pretrain_settings,
    starts_from_imagenet,
)
from decur.config.methods import METHODS, MethodName
from decur.config.strict import check_known, did_you_mean
from decur.config.yaml_file import read_yaml
from decur.errors import DecurError

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
    "alignment": "alignment loss",
    "saliency": "overlap of saliency",
}
ALL = 100
"""Percent of common dimensions without decoupling."""

SCENARIOS = {
    "sar-optical": "SAR-optical",
    "rgb-dem": "RGB-DEM",
    "rgb-depth": "RGB-depth",
    "rgb-depth-mit": "RGB-depth",
}

Protocol = Literal["linear", "fine-tune", "cmx", "knn", "probe", "probe-common", "probe-unique"]

Kind = Literal[
    "table",
    "curve",
    "gallery",
    "claims",
    "alignment",
    "tsne",
    "gradcam",
    "saliency",
    "spectral",
    "share",
]
"""What an experiment shows; `decur.tables.kinds.KINDS` says what each reads and becomes."""


class Row(Strict):
    """A line of a table, or a point of a curve (`x`); without a method only the paper's value.

    `scenario`, `modalities` and `protocol` override the panel's, `panels` and `scales` limit where
    the row appears.
    """

    label: str
    method: MethodName | None = None
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
        for metric in self.metrics:
            check_known(metric, METRICS, "metric")
        return self


class Comparison(Strict):
    """Cells of the experiment `of`: in each, the row `higher` has more than any row of `lower`.

    Rows and panels are named by their labels; what is not given takes in all panels, labels,
    protocols or metrics. Of alignment and saliency what is compared is the mean; DeCUR's
    dimensions are `DeCUR, common` and `DeCUR, unique`.
    """

    of: str
    higher: str
    lower: tuple[str, ...]
    panels: tuple[str, ...] | None = None
    labels: tuple[float, ...] | None = None
    protocols: tuple[Protocol, ...] | None = None
    metrics: tuple[str, ...] | None = None


class Claim(Strict):
    """What is said of the methods, in our words; it holds if all its comparisons do.

    `section` is that of the paper; none: it is ours. Without comparisons nothing measures it.
    """

    text: str
    section: str | None = None
    comparisons: tuple[Comparison, ...] = ()


class Experiment(Strict):
    """One table, curve, gallery of predictions, list of claims, or what an explainer found.

    `seeds` limits how many of the scale's it uses; `stage` is where the report shows it.
    """

    title: str
    caption: str
    stage: Literal["transfer", "ablations", "explain", "claims"] = "transfer"
    kind: Kind = "table"
    rows: tuple[Row, ...] = ()
    panels: tuple[Panel, ...] = ()
    claims: dict[str, Claim] = Field({})
    x_label: str = ""
    seeds: int | None = None
    about: dict[str, "Experiment"] = Field(
        {},
        exclude=True,  # they are recorded as themselves
        description="the experiments of the scale that the claims compare cells of, filled in by "
        "`chosen_experiments`",
    )

    @model_validator(mode="after")
    def _has_what_its_kind_shows(self) -> Self:
        given = {name for name in ("rows", "panels", "claims") if getattr(self, name)}
        wanted = {"claims"} if self.kind == "claims" else {"rows", "panels"}
        if given != wanted:
            raise ValueError(f"a {self.kind} has {' and '.join(sorted(wanted))}, and no others")
        for row in self.rows:
            for label in row.panels or ():
                known = [panel.label for panel in self.panels]
                check_known(label, known, "panel", f" for the row '{row.label}'")
        return self


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
    trees = read_yaml(path)
    if not isinstance(trees, dict):
        raise DecurError(f"{path}: expected experiments by name, found {type(trees).__name__}")
    return _parsed(trees, str(path), {})


def _parsed(
    trees: Mapping[str, Any], where: str, known: Mapping[str, Experiment]
) -> dict[str, Experiment]:
    """The experiments of a tree, whose claims may be about those known before."""
    experiments = {}
    for name, tree in trees.items():
        if name.startswith("."):
            continue
        if not re.fullmatch("[a-z0-9][a-z0-9-]*", name):
            raise DecurError(f"{where}: '{name}': a name is of a-z, 0-9 and -")
        if name in known:
            raise DecurError(f"{where}: '{name}' is declared already; choose another name")
        try:
            experiments[name] = Experiment.model_validate(tree)
        except ValidationError as error:
            raise DecurError(first_problem(error, f"{where}: {name}", tree)) from None
    for name, experiment in experiments.items():
        for claim, comparison in comparisons(experiment):
            _check_names(f"{where}: {name}: {claim}", comparison, {**known, **experiments})
    return experiments


def parts(experiment: Experiment, row: Row) -> dict[str, str]:
    """What a row has to compare, by its label: a part of what was explained, else ''."""
    if experiment.kind not in ("alignment", "saliency"):
        return {row.label: ""}
    if row.method is None or not METHODS[row.method].has_unique:
        return {row.label: "all"}
    return {f"{row.label}, {part}": part for part in ("common", "unique")}


def comparisons(experiment: Experiment) -> list[tuple[str, Comparison]]:
    """Every comparison of an experiment, with the name of its claim."""
    return [(name, c) for name, claim in experiment.claims.items() for c in claim.comparisons]


def _check_names(place: str, comparison: Comparison, experiments: dict[str, Experiment]) -> None:
    of = experiments.get(comparison.of)
    if of is None:
        hint = did_you_mean(comparison.of, experiments)
        raise DecurError(f"{place}: there is no experiment '{comparison.of}'{hint}")
    for kind, named, known in (
        ("row", (comparison.higher, *comparison.lower), {p for r in of.rows for p in parts(of, r)}),
        ("panel", comparison.panels or (), {panel.label for panel in of.panels}),
    ):
        for label in named:
            if label not in known:
                hint = did_you_mean(label, known)
                raise DecurError(f"{place}: {comparison.of} has no {kind} '{label}'{hint}")


def chosen_experiments(experiments: dict[str, Experiment], config: Config) -> dict[str, Experiment]:
    """The experiments that the config asks for, in its order, and then those that it declares.

    Raises:
        DecurError: the config names an experiment that is not declared, declares one wrongly, or
            asks for a gallery of predictions that no transfer keeps.
    """
    own = _parsed(config.own_experiments, "own_experiments", experiments)
    chosen = {}
    for name in config.experiments:
        if name not in experiments:
            hint = did_you_mean(name, experiments)
            raise DecurError(f"experiments: '{name}' is not declared in experiments.yaml{hint}")
        chosen[name] = experiments[name]
    chosen |= own
    for name, experiment in own.items():
        _check_own(f"own_experiments: {name}", experiment, config)
    for name, experiment in chosen.items():
        if experiment.kind == "gallery":
            _check_gallery(name, experiment, config)
    return {name: _with_subjects(experiment, chosen) for name, experiment in chosen.items()}


def _check_own(place: str, experiment: Experiment, config: Config) -> None:
    """That a config has what its own experiment names; one of all scales may name more."""
    for panel in experiment.panels:
        _check_scenario(place, panel.scenario, config)
        if panel.dataset not in config.datasets:
            hint = did_you_mean(panel.dataset, config.datasets)
            raise DecurError(f"{place}: there is no dataset '{panel.dataset}'{hint}")
        _check_modalities(place, panel.modalities, panel.scenario, config)
    for row in experiment.rows:
        if row.scenario is not None:
            _check_scenario(place, row.scenario, config)
        if row.method is not None and row.method not in config.methods:
            raise DecurError(f"{place}: method '{row.method}' is not among the config's methods")


def _check_scenario(place: str, name: str, config: Config) -> None:
    if name not in config.scenarios:
        hint = did_you_mean(name, config.scenarios)
        raise DecurError(f"{place}: there is no scenario '{name}'{hint}")


def _check_modalities(place: str, modalities: str, scenario: str, config: Config) -> None:
    known = config.scenarios[scenario].modalities
    for modality in modalities.split("+"):
        if modality not in known:
            hint = did_you_mean(modality, known)
            raise DecurError(f"{place}: {scenario} has no modality '{modality}'{hint}")


def check_cells(experiments: Mapping[str, Experiment], config: Config) -> None:
    """Check that a config has data and recipe of all cells that it has a run of.

    Raises:
        DecurError: naming the experiment, and the first thing that is not there.
    """
    for name, experiment in experiments.items():
        if experiment.kind not in EXPLAINERS or experiment.kind == "share":
            _check_cells(f"experiment '{name}'", experiment, config)


def _check_cells(place: str, experiment: Experiment, config: Config) -> None:
    for entry in entries(experiment, config):
        for run in entry.runs[:1]:
            cell = entry.cell
            _check_modalities(place, cell.modalities, run.scenario, config)
            try:
                config.check_dataset("panels", cell.dataset, cell.modalities.split("+"))
                check_recipe(config, cell)
            except ValueError as error:
                raise DecurError(f"{place}: {error}") from None


def _with_subjects(experiment: Experiment, chosen: dict[str, Experiment]) -> Experiment:
    subjects = {c.of: chosen[c.of] for _, c in comparisons(experiment) if c.of in chosen}
    return experiment.model_copy(update={"about": subjects})


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
        if experiment.kind in EXPLAINERS and experiment.kind != "share":
            continue  # but the share stands beside a grid of transfers
        for entry in entries(experiment, config):
            for run in entry.runs:
                wanted.setdefault(run, set()).add(entry.cell)
    return {run: sorted(cells) for run, cells in sorted(wanted.items())}


def pretrain_runs(experiments: Sequence[Experiment], config: Config) -> list[Run]:
    """The pretraining runs that experiments need; without any, each method in each scenario.

    Raises:
        DecurError: the experiments need no run at all, or the config does not have what a run
            starts from.
    """
    if experiments:
        explained = {run for run, _ in explain_runs(experiments, config)}
        runs = {*transfer_runs(experiments, config), *explained}
        if not runs and config.methods and config.seeds:
            raise DecurError(
                "experiments: none has a row of one of the config's methods "
                f"({', '.join(config.methods)}) and a panel of one of its scenarios "
                f"({', '.join(config.scenarios)}), so nothing would be pretrained; add some, or "
                "leave `experiments` out to pretrain every method in every scenario"
            )
    else:
        every = product(config.scenarios, config.methods, config.seeds)
        runs = {Run(scenario, method, seed=seed) for scenario, method, seed in every}
    for run in runs:
        settings = pretrain_settings(config, run)
        try:
            config.check_dataset(f"run '{run}'", settings.dataset, settings.modalities)
        except ValueError as error:
            raise DecurError(str(error)) from None
        if settings.imagenet is not None and not Path(settings.imagenet).is_file():
            raise DecurError(
                f"scenarios.{run.scenario}.pretrain.imagenet: {settings.imagenet} is not there, "
                f"and the run '{run}' starts from it; correct the path"
            )
    return sorted(runs)


def explain_runs(experiments: Iterable[Experiment], config: Config) -> list[tuple[Run, str]]:
    """The pretraining runs that experiments explain, with the explainer of each."""
    found: set[tuple[Run, str]] = set()
    for experiment in experiments:
        if experiment.kind == "share":
            found |= {(run, "share") for _, run in share_runs(experiment, config)}
        elif experiment.kind in EXPLAINERS:
            runs = (run for entry in entries(experiment, config) for run in entry.runs)
            found |= {(run, experiment.kind) for run in runs}
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
