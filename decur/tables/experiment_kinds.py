"""List for each kind of experiment which artifacts it reads, and how its result is made."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from decur.artifacts.paths import Paths
from decur.config import EXPLAINERS, Config, pretrain_settings
from decur.config.experiments import Experiment, explain_runs, transfer_runs
from decur.tables import claims
from decur.tables.pages import Result, is_comparable
from decur.tables.results import collate, results_page


def _metrics(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    runs = transfer_runs([experiment], config)
    return [paths.metrics(str(run), str(cell)) for run, cells in runs.items() for cell in cells]


def _table(experiment: Experiment, config: Config, paths: Paths) -> Result:
    from decur.tables import figures, planes

    experiment = without_paper(experiment, config)
    frame = collate(experiment, config, paths)
    page = results_page(frame, experiment, config)
    if experiment.kind == "curve":
        marked = is_comparable(experiment, config)
        return Result(frame, page, partial(figures.curves, frame, experiment, papers=marked))
    return Result(frame, page, partial(planes.draw, experiment, config, paths))


def without_paper(experiment: Experiment, config: Config) -> Experiment:
    """Drop the paper's numbers from an experiment whose data are not the paper's."""
    if is_comparable(experiment, config):
        return experiment
    alone = {"paper": None, "paper_metric": None}
    panels = tuple(panel.model_copy(update=alone) for panel in experiment.panels)
    return experiment.model_copy(update={"panels": panels})


def _gallery_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    runs = transfer_runs([experiment], config)
    datasets = {cell.dataset for cells in runs.values() for cell in cells}
    cards = [paths.card(dataset) for dataset in sorted(datasets)]
    return [*_metrics(experiment, config, paths), *cards]


def _gallery(experiment: Experiment, config: Config, paths: Paths) -> Result:
    from decur.tables import gallery

    blocks = gallery.collate(experiment, config, paths)
    page = gallery.gallery_page(blocks, experiment, config)
    return Result(gallery.accuracies(blocks), page, partial(gallery.draw, blocks))


def _claims(experiment: Experiment, config: Config, paths: Paths) -> Result:
    about = {name: without_paper(of, config) for name, of in experiment.about.items()}
    experiment = experiment.model_copy(update={"about": about})
    frame = claims.collate(experiment, config, paths)
    return Result(frame, claims.claims_page(frame, experiment, config))


def _explained_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """List the explainer's files, and the other artifacts that its page needs."""
    runs = explain_runs([experiment], config)
    files = [paths.explain(str(run), explainer) for run, explainer in runs]
    reads = EXPLAINERS[experiment.kind].reads
    if reads == "metrics":
        return [*_metrics(experiment, config, paths), *files]
    if reads == "shards":
        datasets = sorted({pretrain_settings(config, run).dataset for run, _ in runs})
        return [*files, *(paths.card(dataset) for dataset in datasets)]
    return files


def _explained(experiment: Experiment, config: Config, paths: Paths) -> Result:
    page = EXPLAINERS[experiment.kind].page or "decur.tables.explained.lines"
    module = importlib.import_module(page)
    result: Result = module.result(experiment, config, paths)
    return result


class Kind(NamedTuple):
    """Functions that find the artifacts of an experiment, and that make its result from them."""

    sources: Callable[[Experiment, Config, Paths], list[str]]
    result: Callable[[Experiment, Config, Paths], Result]


KINDS = {
    "table": Kind(_metrics, _table),
    "curve": Kind(_metrics, _table),
    "gallery": Kind(_gallery_sources, _gallery),
    "claims": Kind(claims.sources, _claims),
    **dict.fromkeys(EXPLAINERS, Kind(_explained_sources, _explained)),
}
