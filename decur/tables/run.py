"""Write the files of an experiment, list their inputs and outputs, and read its page back."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from decur.artifacts.ownership import check_listed
from decur.artifacts.paths import Paths
from decur.artifacts.provenance import Origin, fingerprint, provenance
from decur.artifacts.records import TableRecord
from decur.artifacts.transferred import check_transferred
from decur.config import Config
from decur.config.experiments import Experiment, Panel, transfer_runs
from decur.config.protocols import PROTOCOLS
from decur.tables.experiment_kinds import KINDS
from decur.tables.latex import as_latex
from decur.tables.markdown import as_markdown
from decur.tables.pages import Page

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PACKAGES = ("numpy", "pandas", "scipy", "matplotlib")


def has_figure(experiment: Experiment) -> bool:
    """Check whether an experiment has a figure.

    Claims have none, tables only if they are pairs of probes, and explainers only if they have a
    page of their own.
    """
    if experiment.explainer is not None:
        return experiment.explainer.page is not None
    if experiment.kind != "table":
        return experiment.kind != "claims"
    return all(_spans_plane(panel) for panel in experiment.panels)


def _spans_plane(panel: Panel) -> bool:
    """Check whether a panel has one pair of probe accuracies; see `decur.tables.planes`."""
    is_pair = len(panel.metrics) == 2 and len(panel.labels) == 1
    return is_pair and [PROTOCOLS[p].labelled for p in panel.protocols] == [False]


def outputs(name: str, experiment: Experiment, paths: Paths) -> dict[str, str]:
    """List the files that `write_experiment` writes, by kind: `csv`, `md`, `tex` and `json`.

    An experiment with a figure also has `figure` (PNG) and `vector` (SVG). The JSON file records
    the provenance, and contains the page for the report and the terminal.
    """
    files = {suffix: paths.table(name, suffix) for suffix in ("csv", "md", "tex", "json")}
    if has_figure(experiment):
        files |= {"figure": paths.figure(name), "vector": paths.figure(name, "svg")}
    return files


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """List the artifacts that an experiment reads, whether they exist or not."""
    return KINDS[experiment.kind].sources(experiment, config, paths)


def tables(experiments: Mapping[str, Experiment], config: Config, paths: Paths) -> Iterator[str]:
    """Write the outputs of experiments, and yield the name of each when it is finished.

    Raises:
        DecurError: see `write_experiment`.
    """
    for name, experiment in experiments.items():
        write_experiment(name, experiment, config, paths)
        yield name


def write_experiment(name: str, experiment: Experiment, config: Config, paths: Paths) -> None:
    """Write the outputs of an experiment. The same results give the same bytes.

    Raises:
        DecurError: a result file is damaged or was deleted, or an output exists and was not written
            by this package.
    """
    made = {kind: Path(path) for kind, path in outputs(name, experiment, paths).items()}
    record = made.pop("json")
    check_listed(record, made.values())
    _check_transferred(experiment, config, paths)
    result = KINDS[experiment.kind].result(experiment, config, paths)
    csv = result.frame.to_csv(index=False, float_format=result.float_format)
    texts = {"csv": csv, "md": as_markdown(result.page), "tex": as_latex(result.page)}
    contents = {made[kind]: text.encode() for kind, text in texts.items()}
    if "figure" in made:
        contents |= {made[kind]: image for kind, image in result.draw().items()}
    origin, page = _origin(name, experiment, config, paths), dataclasses.asdict(result.page)
    TableRecord(provenance=origin, page=page).write_files(record, contents)


def read_page(name: str, paths: Paths) -> Page:
    """Read the page of an experiment, or make one that explains why it is missing.

    Tables of earlier versions of this package have no readable page.

    Raises:
        DecurError: the record is damaged.
    """
    record = Path(paths.table(name, "json"))
    if not record.is_file():
        return Page(name, body=("Not collated yet.",))
    tree = TableRecord.read(record).page
    try:
        return _page_type().validate_python(tree)
    except ValueError:
        reason = "Collated by another version of decur: run `decur tables` for this scale again."
        return Page(name, body=(reason,))


@functools.cache
def _page_type() -> "TypeAdapter[Page]":
    from pydantic import TypeAdapter

    return TypeAdapter(Page)


def _check_transferred(experiment: Experiment, config: Config, paths: Paths) -> None:
    """Raise an error if metrics were made and then deleted, instead of leaving them out."""
    wanted = transfer_runs([experiment, *experiment.about.values()], config)
    for run, cells in wanted.items():
        metrics = {str(cell): Path(paths.metrics(str(run), str(cell))) for cell in cells}
        check_transferred(Path(paths.transferred(str(run))), metrics)


def _origin(name: str, experiment: Experiment, config: Config, paths: Paths) -> Origin:
    """Make the provenance of an experiment's files, without a time: bytes are reproducible."""

    def inside(path: str) -> str:
        return str(Path(path).relative_to(paths.root))

    existing = [path for path in sources(experiment, config, paths) if Path(path).is_file()]
    settings = {
        "name": name,
        "scale": config.scale,
        "seeds": config.seeds,
        "methods": config.methods,
        "experiment": experiment.model_dump(mode="json"),
    }
    inputs = {inside(path): fingerprint(Path(path)) for path in existing}
    return provenance(settings, inputs, PACKAGES)
