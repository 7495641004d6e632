"""All transfer evaluations of one pretrained run, in one process: weights in, metrics.json out."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from decur.artifacts.ownership import check_ours, names_origin
from decur.artifacts.paths import Cell
from decur.artifacts.predictions import PREDICTIONS
from decur.artifacts.provenance import fingerprint, provenance, write_json
from decur.artifacts.timing import Job
from decur.config import TransferSettings
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.transfer.cell import LABELS, CellInputs, chosen_modalities, evaluate_cell
from decur.transfer.features import FrozenFeatures
from decur.weights import in_bands_of, read_weights
from decur.weights.files import recorded_arch

PACKAGES = ("numpy", "torch", "torchvision", "timm", "scikit-learn")
METRICS = "metrics.json"


def transfer(
    settings: TransferSettings,
    cells: Sequence[Cell],
    weights: Path,
    shards: Path,
    out: Path,
    *,
    device: str = "cpu",
) -> None:
    """Evaluate the backbones of `weights` in every cell, on the datasets below `shards`.

    Writes `out/<cell>/metrics.json`: metrics in percent, and where they came from; beside it, where
    labels were used, `labels.txt`: the ids of the training samples whose labels were seen, and
    `predictions/`, where the recipe asks for them.

    Raises:
        DecurError: weights, shards and settings do not fit, or something to be written exists and
            is not ours.
    """
    for cell in cells:
        check_ours(out / str(cell) / METRICS, names_origin)
        check_ours(out / str(cell) / LABELS)
        check_ours(out / str(cell) / PREDICTIONS)
    tensors, metadata = read_weights(weights)
    _check_archs(weights, metadata, settings)
    weights_checksum = fingerprint(weights)
    for dataset, group in groupby(sorted(cells), key=lambda cell: cell.dataset):
        cells_of = list(group)
        names = {name for cell in cells_of for name in chosen_modalities(settings, cell)}
        stored, frozen = PairedShards(shards / dataset), FrozenFeatures()
        data = in_bands_of(weights, metadata, stored, sorted(names))
        for cell in cells_of:
            job = Job(device)
            path = out / str(cell) / METRICS
            result = evaluate_cell(
                CellInputs(settings, cell, tensors, data, torch.device(device), frozen)
            )
            result.write(path.parent)
            inputs = {dataset: data.card["checksum"], weights.name: weights_checksum}
            origin = provenance(settings, inputs, PACKAGES)
            origin["pretrained"] = metadata.get("provenance", {})
            product = {"run": settings.run, "cell": str(cell), **result.record}
            write_json(path, {**product, "provenance": origin, "job": job.record()})
            scores = {k: round(v, 1) for k, v in result.record["metrics"].items()}
            print(f"{settings.run} {cell}: {scores}", flush=True)


def _check_archs(weights: Path, metadata: Mapping[str, Any], settings: TransferSettings) -> None:
    """Refuse another architecture: one that differs in its features alone would load as well."""
    for name in settings.pretrain.modalities:
        arch, found = settings.pretrain.arch_of(name), recorded_arch(metadata, name)
        if found not in (None, arch):
            raise DecurError(
                f"{weights}: its {name} backbone is {found}, the settings say {arch}; correct "
                f"`arch` of scenarios.{settings.pretrain.scenario}.pretrain"
            )
