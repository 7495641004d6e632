"""Select the cells and runs that the experiments of a scale need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from decur.artifacts.paths import Cell, Run
from decur.config.experiments.declared import (
    ALL,
    Experiment,
    Panel,
    Row,
    comparisons,
    parse_experiments,
)
from decur.config.pretraining import Scenario
from decur.config.protocols import PROTOCOLS
from decur.config.released import BY_NAME
from decur.config.runs import (
    canonical_variant,
    check_recipe,
    pretrain_settings,
    starting_weights,
)
from decur.config.scale import Config
from decur.config.strict import did_you_mean
from decur.errors import DecurError


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its row, panel, cell and metric, and its runs, one per seed.

    `runs` is empty if the scale does not include the method of the row, or if the scenario gives no
    file for the initial weights of the row.
    """

    row: Row
    panel: Panel
    cell: Cell
    protocol: str
    metric: str
    runs: tuple[Run, ...]

    @property
    def paper_metric(self) -> str | None:
        """Return the metric of the number in the paper, if it differs from ours."""
        return self.panel.paper_metric if self.panel.paper else None


def chosen_experiments(experiments: dict[str, Experiment], config: Config) -> dict[str, Experiment]:
    """Return the experiments that the configuration names, in its order, then those it declares.

    Raises:
        DecurError: the configuration names an unknown experiment, declares one wrongly, or includes
            a gallery of predictions that no transfer evaluation keeps.
    """
    own = parse_experiments(config.own_experiments, "own_experiments", experiments)
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
    """Check that the configuration has all names that its own experiment uses.

    Experiments of experiments.yaml are not checked: they serve all scales, so they may name more.
    """
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
            raise DecurError(
                f"{place}: method '{row.method}' is not among the config's methods; add it there"
            )


def _check_scenario(place: str, name: str, config: Config) -> None:
    if name not in config.scenarios:
        hint = did_you_mean(name, config.scenarios)
        raise DecurError(f"{place}: there is no scenario '{name}'{hint}")


def _check_modalities(place: str, modalities: str, scenario: str, config: Config) -> None:
    known = config.scenarios[scenario].modalities
    named = modalities.split("+")
    for modality in named:
        if named.count(modality) > 1:
            raise DecurError(
                f"{place}: modalities '{modalities}' has '{modality}' twice; name it once"
            )
        if modality not in known:
            hint = did_you_mean(modality, known)
            raise DecurError(f"{place}: {scenario} has no modality '{modality}'{hint}")


def check_cells(experiments: Mapping[str, Experiment], config: Config) -> None:
    """Check that the configuration has data and a recipe for each cell that has a run.

    Raises:
        DecurError: something is missing; the message names the experiment and the first problem.
    """
    for name, experiment in experiments.items():
        if experiment.needs_transfers:
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
        predicts = PROTOCOLS[entry.cell.protocol].predicts and not entry.panel.missing
        if recipe is None or recipe.task != "segmentation" or not predicts:
            raise DecurError(
                f"{panel}: a gallery shows only segmentations by a head on all modalities; remove "
                "this panel"
            )
        if recipe.predictions == "none":
            raise DecurError(
                f"{panel}: predictions are not kept; set transfer.{dataset}.predictions"
            )


def entries(experiment: Experiment, config: Config) -> list[Entry]:
    """Return all entries of an experiment, row by row, for panels whose scenario is configured."""
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
            cell = Cell(panel.dataset, modalities, row.protocol_for(protocol), labels)
            found.append(Entry(row, panel, cell, protocol, metric, runs))
    return found


def _runs(row: Row, scenario: Scenario, config: Config) -> tuple[Run, ...]:
    if row.method not in config.methods or scenario not in config.scenarios:
        return ()
    start = starting_weights(config.scenarios[scenario].pretrain, row.method, row.variant)
    if start is not None and start.file is None:
        return ()
    try:
        variant = canonical_variant(config, scenario, row.variant)
    except DecurError as error:
        raise DecurError(f"row '{row.label}' ({row.variant}): {error}") from None
    return tuple(Run(scenario, row.method, variant, seed) for seed in config.seeds)


def transfer_runs(experiments: Iterable[Experiment], config: Config) -> dict[Run, list[Cell]]:
    """Return the transfer cells that tables, curves and galleries need, by pretraining run."""
    wanted: dict[Run, set[Cell]] = {}
    for experiment in experiments:
        if not experiment.needs_transfers:
            continue
        for entry in entries(experiment, config):
            for run in entry.runs:
                wanted.setdefault(run, set()).add(entry.cell)
    return {run: sorted(cells) for run, cells in sorted(wanted.items())}


def pretrain_runs(experiments: Sequence[Experiment], config: Config) -> list[Run]:
    """Return the pretraining runs of experiments; without any, each method in each scenario.

    Raises:
        DecurError: the experiments need no run, or the dataset or initial weights of a run are
            missing.
    """
    if experiments:
        explained = {run for run, _ in explain_runs(experiments, config)}
        runs = {*transfer_runs(experiments, config), *explained}
        if not runs and config.methods and config.seeds:
            raise DecurError(
                "experiments: none has both a row with one of the config's methods "
                f"({', '.join(config.methods)}) and a panel with one of its scenarios "
                f"({', '.join(config.scenarios)}), so nothing would be pretrained; add some, or "
                "remove `experiments` to pretrain every method in every scenario"
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
        _check_start(run, config)
    return sorted(runs)


def _check_start(run: Run, config: Config) -> None:
    """Check that the initial weights of a run, if any, exist or can be downloaded."""
    start = starting_weights(config.scenarios[run.scenario].pretrain, run.method, run.variant)
    if start is None or start.file is None or start.is_published or Path(start.file).is_file():
        return
    remedy = "correct the path"
    published = BY_NAME if start.key == "released" else ()
    raise DecurError(
        f"scenarios.{run.scenario}.pretrain.{start.key}: {start.file} does not exist, but the run "
        f"'{run}' starts from it{did_you_mean(start.file, published, remedy)}"
    )


def explain_runs(experiments: Iterable[Experiment], config: Config) -> list[tuple[Run, str]]:
    """Return the pretraining runs that experiments explain, each with its explainer."""
    found: set[tuple[Run, str]] = set()
    for experiment in experiments:
        if experiment.explainer is not None:
            found |= {(run, experiment.kind) for run in _explained(experiment, config)}
    return sorted(found)


def _explained(experiment: Experiment, config: Config) -> Iterable[Run]:
    if experiment.explainer is not None and experiment.explainer.on_grid:
        return [run for _, run in share_runs(experiment, config)]
    return [run for entry in entries(experiment, config) for run in entry.runs]


def share_runs(experiment: Experiment, config: Config) -> list[tuple[float, Run]]:
    """Return the runs from which the share is estimated, each with its own share (`x`).

    If all dimensions are common, the runs of all seeds of the scale are included, even if the grid
    has fewer `seeds`, because table 4 needs these runs anyway.
    """
    found: set[tuple[float, Run]] = set()
    for entry in entries(experiment.model_copy(update={"seeds": None}), config):
        x, seeds = entry.row.x or 0, experiment.seeds
        found |= {(x, run) for run in entry.runs[: None if x == ALL else seeds]}
    return sorted(found)
