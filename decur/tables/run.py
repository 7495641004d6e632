"""The files of an experiment: which there are, what they are made from, and their writing."""

from pathlib import Path

from decur.artifacts.ownership import check_listed
from decur.artifacts.paths import Paths
from decur.artifacts.provenance import fingerprint, provenance
from decur.artifacts.records import Table
from decur.config import Config
from decur.config.experiments import Experiment
from decur.tables.kinds import KINDS
from decur.tables.latex import as_latex
from decur.tables.markdown import as_markdown

PACKAGES = ("numpy", "pandas", "scipy", "matplotlib")


def has_figure(experiment: Experiment) -> bool:
    """Tables of probes, and what is no table, are drawn; other tables, and claims, are read."""
    probes = [p.startswith("probe") for panel in experiment.panels for p in panel.protocols]
    return experiment.kind not in ("table", "claims") or (bool(probes) and all(probes))


def outputs(name: str, experiment: Experiment, paths: Paths) -> dict[str, str]:
    """The files that `write_experiment` makes: `csv`, `md`, `tex`, `json`.

    Where something is drawn `figure` (PNG) and `vector` (SVG) too. The JSON says what the others
    were made from.
    """
    found = {suffix: paths.table(name, suffix) for suffix in ("csv", "md", "tex", "json")}
    if has_figure(experiment):
        found |= {"figure": paths.figure(name), "vector": paths.figure(name, "svg")}
    return found


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The products that an experiment is collated from, made already or not."""
    return KINDS[experiment.kind].sources(experiment, config, paths)


def write_experiment(name: str, experiment: Experiment, config: Config, paths: Paths) -> None:
    """Write the outputs of an experiment; the same results give the same bytes.

    Raises:
        DecurError: a result file is damaged, or a file to be written exists and is not ours.
    """
    made = {kind: Path(path) for kind, path in outputs(name, experiment, paths).items()}
    record = made.pop("json")
    check_listed(record, made.values())
    result = KINDS[experiment.kind].result(experiment, config, paths)
    csv = result.frame.to_csv(index=False, float_format=result.float_format)
    texts = {"csv": csv, "md": as_markdown(result.page), "tex": as_latex(result.page)}
    contents = {made[kind]: text.encode() for kind, text in texts.items()}
    if "figure" in made:
        contents |= {made[shown]: image for shown, image in result.draw().items()}
    _table(name, experiment, config, paths).write_files(record, contents)


def _table(name: str, experiment: Experiment, config: Config, paths: Paths) -> Table:
    """Where an experiment's files are from, without a time: equal results give equal bytes."""

    def inside(path: str) -> str:
        return str(Path(path).relative_to(paths.root))

    found = [path for path in sources(experiment, config, paths) if Path(path).is_file()]
    settings = {
        "name": name,
        "scale": config.scale,
        "seeds": config.seeds,
        "methods": config.methods,
        "experiment": experiment.model_dump(mode="json"),
    }
    inputs = {inside(path): fingerprint(Path(path)) for path in found}
    return Table(provenance=provenance(settings, inputs, PACKAGES))
