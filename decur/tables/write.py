"""The files of an experiment: which there are, what they are made from, and their writing."""

import os
from pathlib import Path
from typing import Any

from decur.config import Config
from decur.experiments import Experiment
from decur.files import write_atomically
from decur.paths import Paths
from decur.provenance import file_checksum, fingerprint, provenance, write_json
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
        DecurError: a result file is damaged.
    """
    result = KINDS[experiment.kind].result(experiment, config, paths)
    made = outputs(name, experiment, paths)
    csv = result.frame.to_csv(index=False, float_format=result.float_format)
    _write(made["csv"], csv.encode())
    _write(made["md"], as_markdown(result.page).encode())
    _write(made["tex"], as_latex(result.page).encode())
    if "figure" in made:
        for shown, image in result.draw().items():
            _write(made[shown], image)
    write_json(Path(made["json"]), _origin(name, experiment, config, paths))


def _origin(name: str, experiment: Experiment, config: Config, paths: Paths) -> dict[str, Any]:
    """Where an experiment's files are from, without a time: equal results give equal bytes."""

    def inside(path: str) -> str:
        return str(Path(path).relative_to(paths.root))

    found = [path for path in sources(experiment, config, paths) if Path(path).is_file()]
    folder = Path(paths.table(name, "json")).parent
    made = [path for kind, path in outputs(name, experiment, paths).items() if kind != "json"]
    settings = {
        "name": name,
        "scale": config.scale,
        "seeds": config.seeds,
        "methods": config.methods,
        "experiment": experiment.model_dump(mode="json"),
    }
    inputs = {inside(path): fingerprint(Path(path)) for path in found}
    return {
        "files": {os.path.relpath(p, folder): file_checksum(Path(p)) for p in made},
        "provenance": provenance(settings, inputs, PACKAGES),
    }


def _write(path: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))
