"""All transfer evaluations of one pretrained run, in one process: weights in, metrics.json out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur import datasets
from decur.artifacts.ownership import check_ours, names_origin, write_ours
from decur.artifacts.paths import Cell
from decur.artifacts.predictions import PREDICTIONS
from decur.artifacts.provenance import fingerprint, provenance
from decur.artifacts.records import Metrics, Weights
from decur.artifacts.timing import JobTimer
from decur.config import TransferSettings
from decur.config.presets import Preset
from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.cmx import CMX
from decur.models.heads import FCN, LateFusion
from decur.models.two_branch import TwoBranch
from decur.shards import PairedShards
from decur.training.methods import build_model, dims_common
from decur.training.views import whole_view
from decur.transfer.data import LabelledData, label_subset
from decur.transfer.features import FrozenFeatures
from decur.transfer.fit import Found, Task, nearest_neighbours, samples_evaluated, train_head
from decur.transfer.predictions import Predictions
from decur.transfer.probe import factor_levels, features, probe_factors, split_dimensions
from decur.weights import branch_weights, in_bands_of, load_backbone, read_weights
from decur.weights.files import recorded_arch

PACKAGES = ("numpy", "torch", "torchvision", "timm", "scikit-learn")
METRICS, LABELS = "metrics.json", "labels.txt"


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
    tensors, record = read_weights(weights)
    _check_archs(weights, record, settings)
    weights_checksum = fingerprint(weights)
    for dataset, group in groupby(sorted(cells), key=lambda cell: cell.dataset):
        cells_of = list(group)
        names = {name for cell in cells_of for name in chosen_modalities(settings, cell)}
        stored, frozen = PairedShards(shards / dataset), FrozenFeatures()
        data = in_bands_of(weights, record, stored, sorted(names))
        for cell in cells_of:
            job = JobTimer(device)
            path = out / str(cell) / METRICS
            if cell.protocol.startswith("probe"):
                found = _probe(settings, cell, tensors, data)
            else:
                task = _task(settings, cell, tensors, data, torch.device(device))
                wanted = settings.recipes[dataset].predictions
                keep = Predictions(data, task.facts, wanted)
                found = _evaluate(settings, cell, replace(task, keep=keep), frozen)
                keep.write(path.with_name(PREDICTIONS))
                _write_lines(path.with_name(LABELS), data.index["id"].iloc[task.rows])
            inputs = {dataset: data.card.checksum, weights.name: weights_checksum}
            Metrics(
                run=settings.run,
                cell=str(cell),
                **found,
                provenance=provenance(settings, inputs, PACKAGES, record.provenance),
                job=job.record(),
            ).write(path)
            scores = {k: round(v, 1) for k, v in found["metrics"].items()}
            print(f"{settings.run} {cell}: {scores}", flush=True)


def _check_archs(weights: Path, record: Weights, settings: TransferSettings) -> None:
    """Refuse another architecture: one that differs in its features alone would load as well."""
    for name in settings.pretrain.modalities:
        arch, found = settings.pretrain.arch_of(name), recorded_arch(record, name)
        if found not in (None, arch):
            raise DecurError(
                f"{weights}: its {name} backbone is {found}, the settings say {arch}; correct "
                f"`arch` of scenarios.{settings.pretrain.scenario}.pretrain"
            )


def _evaluate(
    settings: TransferSettings, cell: Cell, task: Task, features: FrozenFeatures
) -> Found:
    """What is measured on a cell; `features` are shared by all cells of frozen backbones.

    Without augmentation or windows only: then whole images are seen, and the settings say that what
    is made of them fits into memory.
    """
    transfer = settings.recipes[cell.dataset]
    seen_anew = transfer.augment or transfer.sliding is not None
    shared = replace(task, features=None if seen_anew else features)
    if cell.protocol == "knn":
        return nearest_neighbours(shared)
    _, recipe = transfer.protocol(cell.protocol)
    if cell.protocol != "linear":
        return train_head(task, recipe, None)
    mode = transfer.frozen_mode
    return train_head(shared if mode == "eval" else task, recipe, mode)


def chosen_modalities(settings: TransferSettings, cell: Cell) -> dict[str, Preset]:
    """The cell's modalities with their presets, in the order of the scenario.

    Raises:
        DecurError: the scenario has no such modality.
    """
    known = settings.pretrain.modalities
    for name in cell.modalities.split("+"):
        if name not in known:
            raise DecurError(f"cell '{cell}': no modality '{name}' (known: {', '.join(known)})")
    wanted = cell.modalities.split("+")
    return {name: preset for name, preset in known.items() if name in wanted}


def _backbones(
    settings: TransferSettings,
    names: Iterable[str],
    tensors: dict[str, Tensor],
    shards: PairedShards,
) -> list[Backbone]:
    order = list(settings.pretrain.modalities)
    return [
        load_backbone(
            branch_weights(tensors, order.index(name)),
            arch=settings.pretrain.arch_of(name),
            in_chans=len(shards.bands(name)),
        )
        for name in names
    ]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_ours(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _labelled_rows(cell: Cell, shards: PairedShards, seed: int) -> NDArray[np.int64]:
    rows = shards.rows("train", labelled=True)
    return rows[label_subset(shards.index["id"].iloc[rows].tolist(), cell.labels, seed)]


def _task(
    settings: TransferSettings,
    cell: Cell,
    tensors: dict[str, Tensor],
    shards: PairedShards,
    device: torch.device,
) -> Task:
    """The pretrained backbones below a fresh, seeded head, and the data of the cell."""
    seed = settings.pretrain.seed
    views, _ = settings.recipes[cell.dataset].protocol(cell.protocol)
    facts = datasets.facts(cell.dataset, shards.card)
    presets = chosen_modalities(settings, cell)
    torch.manual_seed(seed)
    backbones = _backbones(settings, presets, tensors, shards)
    heads = {"classification": LateFusion, "segmentation": FCN}
    head = CMX if cell.protocol == "cmx" else heads[views.task]
    model = head(backbones, len(facts.classes))
    official = settings.recipes[cell.dataset].classifier_init == "official"
    if official and isinstance(model, LateFusion) and cell.protocol == "fine-tune":
        model.classifier.reset_parameters()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Task(
        model,
        LabelledData(shards, presets, views, facts.ignore, device),
        facts,
        rows=_labelled_rows(cell, shards, seed),
        test_rows=shards.rows(facts.evaluation, labelled=True),
        seed=seed,
    )


def _probe(
    settings: TransferSettings, cell: Cell, tensors: dict[str, Tensor], shards: PairedShards
) -> Found:
    """Factor probes of one modality: `probe`, `probe-common` or `probe-unique`."""
    ((name, preset),) = chosen_modalities(settings, cell).items()
    branch = list(settings.pretrain.modalities).index(name)
    model = build_model(settings.pretrain, shards)
    model.load_state_dict(tensors)
    facts = datasets.facts(cell.dataset, shards.card)
    train_rows, test_rows = shards.rows("train"), shards.rows(facts.evaluation)

    def representation(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        images = whole_view(shards, name, preset, rows, settings.pretrain.crop)
        if cell.protocol == "probe":
            return features(model.backbones[branch], images).numpy()
        z = features(_Embedder(model, branch), images)
        common = dims_common(settings.pretrain, model.embedding_dim)
        return split_dimensions(z, common, cell.protocol.removeprefix("probe-")).numpy()

    levels = factor_levels(shards, train_rows), factor_levels(shards, test_rows)
    factors = {f: (levels[0][f], levels[1][f]) for f in levels[0]}
    train_features = representation(train_rows)
    metrics = probe_factors(train_features, representation(test_rows), factors)
    return {
        "metrics": metrics,
        "counts": {"dimensions": train_features.shape[1]},
        "evaluated": samples_evaluated(shards, facts, len(test_rows)),
    }


class _Embedder(nn.Module):
    """Backbone and projector of one branch as a single network."""

    def __init__(self, model: TwoBranch, branch: int) -> None:
        super().__init__()
        self.model, self.branch = model, branch

    def forward(self, x: Tensor) -> Tensor:
        return self.model.embed(x, self.branch)
