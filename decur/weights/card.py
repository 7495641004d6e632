"""Write the model card of exported weights: metadata for model hubs, and instructions for users."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from decur import datasets
from decur.artifacts.paths import Cell, identify
from decur.artifacts.provenance import Origin
from decur.artifacts.records import Metrics, Weights
from decur.config.datasets import DATASETS
from decur.config.experiments import METRIC_NAMES
from decur.datasets import Dataset
from decur.weights.net_input import eight_bits, linear, net_input, standardised

PAPER = "https://arxiv.org/abs/2309.05300"
HIDDEN = ("scenario", "method", "modalities", "knn", "checkpoint_steps", "monitor_steps")
"""Settings that a card shows elsewhere, or that do not affect the weights."""

TASKS = {"map_micro": "image-classification", "miou": "image-segmentation"}


@dataclass(frozen=True)
class Score:
    """A metric, in percent, of one transfer of the weights."""

    cell: Cell
    metric: str
    value: float


def scores(weights: Path, modality: str) -> list[Score]:
    """Collect the metrics of a run's transfers that used the modality.

    The list is empty if the weights are not in a results folder.

    Raises:
        DecurError: a metrics file is damaged.
    """
    place = identify(weights)
    if place is None or place.kind != "weights" or not place.identity:
        return []
    pattern = Path(place.paths.metrics(place.identity["run"], "*/*/*/*")).relative_to("/")
    found = []
    for path in sorted(Path("/").glob(str(pattern))):
        record = Metrics.read(path)
        cell = Cell.parse(record.cell)
        if modality in cell.modalities.split("+"):
            found += [Score(cell, name, value) for name, value in sorted(record.metrics.items())]
    return found


def render(
    *,
    record: Weights,
    arch: str,
    transform: Mapping[str, Any],
    usage: str,
    measured: Iterable[Score],
    licence: str,
    library: str,
) -> str:
    """Render the card as Markdown with YAML front matter.

    Args:
        record: that of the weights' file.
        arch: the backbone.
        transform: the input of the backbone, see `net_input`.
        usage: Python that defines `net`, and `features` of `raw`.
        measured: transfers to report.
        licence: of the weights, in the spelling of model hubs.
        library: the library that loads the weights in `usage`.
    """
    origin, modality = record.provenance, transform["modality"]
    settings = origin.settings
    facts = _facts(settings["dataset"])
    title = f"{settings['method']} {arch} {modality} ({facts.title})"
    measured = list(measured)
    front: dict[str, Any] = {
        "license": licence,
        "library_name": library,
        "pipeline_tag": "image-feature-extraction",
        "tags": ["decur", "self-supervised", "remote-sensing", modality],
        "datasets": [settings["dataset"]],
    }
    if settings["scenario"] == "rgb-depth":
        front["tags"].remove("remote-sensing")
    if measured:
        front["model-index"] = [{"name": title, "results": [_result(s) for s in measured]}]
    released = record.released
    notes = [f"- {note}" for note in released.notes] if released else []
    source = released.file if released else None
    shown = {k: "not known" if source and v is None else v for k, v in settings.items()}
    by = f"imported from `{source}`" if source else "trained with this package"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {title}",
        f"The {modality} backbone of a pair ({' and '.join(settings['modalities'])}) that "
        f"[DeCUR]({PAPER}) pretrained without labels; method `{settings['method']}`, {by}.",
        "## Use",
        f"`raw` is a NumPy array (bands, height, width): {', '.join(map(str, transform['bands']))} "
        f"in this order; units: {transform['units']}. Run this in the folder of these files:",
        f"```python\n{_preprocessing()}\n{usage}\n```",
        "## Preprocessing",
        _words(transform),
        "## Data",
        f"{facts.title}, {facts.homepage}; licence of the data: {facts.licence}.",
        "## Settings",
        _table(["setting", "value"], [(k, v) for k, v in shown.items() if k not in HIDDEN]),
        "## Metrics",
        _metrics(measured),
        "## Licence",
        f"Licence of the weights: `{licence}`. Licence of their training data: {facts.licence}.",
        "## Provenance",
        "\n".join([*notes, *_provenance(origin)]),
    ]
    return "\n\n".join(parts) + "\n"


def render_joint(
    record: Weights, by_modality: Mapping[str, Mapping[str, Any]], *, file: str, licence: str
) -> str:
    """Render the card of both backbones in the form of the authors' files.

    Args:
        record: that of the weights' file.
        by_modality: by modality the input of its backbone, see `net_input`.
        file: the name of the weights' file.
        licence: of the weights, in the spelling of model hubs.
    """
    settings = record.provenance.settings
    front = {"license": licence, "tags": ["decur", "self-supervised", *by_modality]}
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {settings['method']}, {' and '.join(by_modality)} "
        f"({_facts(settings['dataset']).title})",
        f"Both backbones and their projectors, under the names of the files that the authors of "
        f'[DeCUR]({PAPER}) released: `torch.load("{file}")["model"]`. Their transfer scripts '
        "take it as `--pretrained`. As in their code, colours are read blue first, and elevation "
        "as three equal channels. The last normalisation (`module.bn`) has no statistics.",
        "## Preprocessing",
        "Apply `preprocessing.json` before that order and repetition:",
    ]
    for name, transform in by_modality.items():
        sections += [
            f"### {name}: {', '.join(map(str, transform['bands']))}",
            _words(transform),
        ]
    kept = [(k, v) for k, v in settings.items() if k not in HIDDEN]
    sections += ["## Settings", _table(["setting", "value"], kept), "## Provenance"]
    return "\n\n".join([*sections, "\n".join(_provenance(record.provenance))]) + "\n"


def _facts(dataset: str) -> Dataset:
    """Look up the facts about a dataset; for own images only the name is known."""
    if dataset in DATASETS:
        return datasets.load(dataset).DATASET
    return Dataset(dataset, dataset, (), licence="none stated", homepage="own images")


def _preprocessing() -> str:
    """Build the card's code: the source of `net_input` with its imports."""
    source = "\n\n".join(inspect.getsource(part) for part in (eight_bits, standardised, net_input))
    imports = [
        "import json",
        "from collections.abc import Mapping",
        "from typing import Any",
        "",
        "import numpy as np",
        "import torch",
        "import torch.nn.functional as F",
        "from numpy.typing import NDArray",
    ]
    load = 'with open("preprocessing.json") as file:\n    transform = json.load(file)\n'
    return "\n".join([*imports, "", "", source, "", load])


def _words(transform: Mapping[str, Any]) -> str:
    steps = []
    if transform["scaling"] == "divide":
        steps.append(f"divide by {transform['unit']:,}, clip to 0..1")
    elif transform["scaling"] == "stretch":
        if transform["percentiles"]:
            low, high = transform["percentiles"]
            steps.append(f"clip each band of each image to its {low:g} to {high:g} % percentiles")
        bounds = (
            "these percentiles" if transform["black"] == ["percentile"] else "`black` and `white`"
        )
        steps.append(f"stretch linearly so that {bounds} become 0 and 1, clip")
    steps += [
        "truncate to 8 bits (0..255, then divided by 255)",
        f"resize to {transform['size']} x {transform['size']} pixels ({transform['resize']})",
    ]
    if any(transform["mean"]):
        steps.append("subtract `mean` and divide by `std`, band by band")
    text = "\n".join(f"{i}. {step}" for i, step in enumerate(steps, start=1))
    text += "\n\nAll numbers are in `preprocessing.json`."
    if (straight := linear(transform)) is not None and transform["scaling"] != "none":
        text += (
            " A pipeline that only subtracts and divides comes close with the `mean` and `std` in"
            f" its `linear` entry (first band: {straight['mean'][0]:g} and"
            f" {straight['std'][0]:g}), if the result is clipped to 0..1 before any"
            " standardisation. The network was not trained on z-scores by each band's own mean and"
            " deviation."
        )
    return text


def _result(score: Score) -> dict[str, Any]:
    return {
        "task": {"type": TASKS.get(score.metric, "other")},
        "dataset": {"name": _where(score.cell), "type": score.cell.dataset},
        "metrics": [{"type": score.metric, "value": round(score.value, 2)}],
    }


def _where(cell: Cell) -> str:
    return f"{cell.dataset}, {cell.modalities}, {cell.protocol}, {cell.labels:g} % of the labels"


def _metrics(measured: Sequence[Score]) -> str:
    if not measured:
        return "No transfer results were found next to these weights."
    rows = [
        (_where(s.cell), METRIC_NAMES.get(s.metric, s.metric), f"{s.value:.1f}") for s in measured
    ]
    return _table(["transfer", "metric", "percent"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _provenance(origin: Origin) -> list[str]:
    inputs = [f"- made from {name}: `{checksum}`" for name, checksum in origin.inputs.items()]
    packages = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    return [*inputs, f"- decur {origin.decur}, commit {origin.commit}", f"- {packages}"]
