"""All transfer evaluations of one pretrained run, in one process: weights in, metrics.json out."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur import datasets
from decur.config import TransferSettings
from decur.errors import DecurError
from decur.files import write_atomically
from decur.methods import build_model, dims_common
from decur.models.backbones import Backbone
from decur.models.heads import FCN, LateFusion
from decur.models.two_branch import TwoBranch
from decur.paths import Cell
from decur.provenance import provenance, write_json
from decur.shards import PairedShards
from decur.transfer.data import LabelledData, classes_shown, label_subset, whole_view
from decur.transfer.metrics import HEADLINE, Scores
from decur.transfer.missing import evaluate_missing
from decur.transfer.predictions import Predictions
from decur.transfer.probe import factor_levels, features, probe_factors, split_dimensions
from decur.transfer.train import Head, evaluate, train
from decur.weights import branch_weights, load_backbone, read_weights


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
    a head was trained, `labels.txt`: the ids of the training samples whose labels it saw, and
    `predictions/`, where the recipe asks for them.
    """
    tensors, metadata = read_weights(weights)
    for cell in cells:
        data = PairedShards(shards / cell.dataset)
        path = out / str(cell) / "metrics.json"
        if cell.protocol.startswith("probe"):
            metrics = _probe(settings, cell, tensors, data)
        else:
            rows = _labelled_rows(cell, data, settings.pretrain.seed)
            wanted = settings.recipes[cell.dataset].predictions
            keep = Predictions(data, datasets.load(cell.dataset).DATASET, wanted)
            metrics = _train_head(settings, cell, tensors, data, rows, keep, torch.device(device))
            keep.write(path.with_name("predictions"))
            _write_lines(path.with_name("labels.txt"), data.index["id"].iloc[rows])
        origin = provenance(settings, {cell.dataset: data.card["checksum"]})
        origin["pretrained"] = metadata.get("provenance", {})
        write_json(path, {"run": settings.run, "cell": str(cell), **metrics, "provenance": origin})
        scores = {k: round(v, 1) for k, v in metrics["metrics"].items()}
        print(f"{settings.run} {cell}: {scores}", flush=True)


def chosen_modalities(settings: TransferSettings, cell: Cell) -> dict[str, str]:
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
            arch=settings.pretrain.arch,
            in_chans=len(shards.bands(name)),
        )
        for name in names
    ]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _labelled_rows(cell: Cell, shards: PairedShards, seed: int) -> NDArray[np.int64]:
    rows = shards.rows("train", labelled=True)
    return rows[label_subset(shards.index["id"].iloc[rows].tolist(), cell.labels, seed)]


def _train_head(
    settings: TransferSettings,
    cell: Cell,
    tensors: dict[str, Tensor],
    shards: PairedShards,
    rows: NDArray[np.int64],
    keep: Predictions,
    device: torch.device,
) -> dict[str, Any]:
    """What goes into metrics.json: `metrics`, `per_class` by class name, `counts`.

    `untrained_classes` are those that no training label shows; the metrics count them as others.
    Metrics are of the last epoch; where the recipe asks for it, `curve` and `best` tell of
    earlier ones. Of a multimodal model, `missing` holds its metrics with each modality absent in
    turn.
    """
    facts = datasets.load(cell.dataset).DATASET
    test_rows = shards.rows(facts.evaluation, labelled=True)
    model, data = _model_and_data(settings, cell, tensors, shards, device)
    shown = classes_shown(data, rows, facts.classes)
    # Its answer is of no use, but a wrong label must not come out after hours of training.
    classes_shown(data, test_rows, facts.classes)
    recipe = data.settings.recipe(cell.protocol)
    looks: list[tuple[float, Scores]] = []

    def look(epoch: float) -> None:
        looks.append((epoch, evaluate(model, data, test_rows, keep)))

    frozen, seed = cell.protocol == "linear", settings.pretrain.seed
    train(model, data, rows, recipe, frozen=frozen, seed=seed, look=look)
    scores = looks[-1][1]
    found: dict[str, Any] = {
        "metrics": scores.metrics,
        "per_class": _by_name(facts.classes, scores.per_class),
        "untrained_classes": [
            name for i, name in enumerate(facts.classes) if not shown[i] and i != facts.ignore
        ],
        "counts": {"train": len(rows)},
    }
    if recipe.evaluate_every:
        found |= _curve(looks, HEADLINE[data.settings.task])
    if len(data.presets) > 1:
        absent = evaluate_missing(model, data, test_rows, rows)
        found["missing"] = {m: {n: s.metrics for n, s in by.items()} for m, by in absent.items()}
    return found


def _model_and_data(
    settings: TransferSettings,
    cell: Cell,
    tensors: dict[str, Tensor],
    shards: PairedShards,
    device: torch.device,
) -> tuple[Head, LabelledData]:
    """The pretrained backbones below a fresh, seeded head, and what it is trained on."""
    recipe = settings.recipes[cell.dataset]
    facts = datasets.load(cell.dataset).DATASET
    presets = chosen_modalities(settings, cell)
    torch.manual_seed(settings.pretrain.seed)
    backbones = _backbones(settings, presets, tensors, shards)
    head = LateFusion if recipe.task == "classification" else FCN
    model = head(backbones, len(facts.classes))
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, LabelledData(shards, presets, recipe, facts.ignore, device)


def _curve(looks: Sequence[tuple[float, Scores]], headline: str) -> dict[str, Any]:
    """The headline metric by epoch, and all metrics of the epoch where it is best, the first such.

    The best is chosen by the very data it is measured on, so it is kept and not reported.
    """
    ranks = [np.nan_to_num(scores.metrics[headline], nan=-1) for _, scores in looks]
    epoch, best = looks[int(np.argmax(ranks))]
    return {
        "curve": [{"epoch": e, headline: scores.metrics[headline]} for e, scores in looks],
        "best": {"epoch": epoch, **best.metrics},
    }


def _by_name(classes: Sequence[str], scores: Sequence[float]) -> dict[str, float | None]:
    """A score a class; None where the class does not count."""
    pairs = zip(classes, scores, strict=True)
    return {name: None if math.isnan(score) else score for name, score in pairs}


def _probe(
    settings: TransferSettings, cell: Cell, tensors: dict[str, Tensor], shards: PairedShards
) -> dict[str, dict[str, float]]:
    """Factor probes of one modality: `probe`, `probe-common` or `probe-unique`."""
    ((name, preset),) = chosen_modalities(settings, cell).items()
    branch = list(settings.pretrain.modalities).index(name)
    model = build_model(settings.pretrain, shards)
    model.load_state_dict(tensors)
    evaluation = datasets.load(cell.dataset).DATASET.evaluation
    train_rows, test_rows = shards.rows("train"), shards.rows(evaluation)

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
    return {"metrics": metrics, "counts": {"dimensions": train_features.shape[1]}}


class _Embedder(nn.Module):
    """Backbone and projector of one branch as a single network."""

    def __init__(self, model: TwoBranch, branch: int) -> None:
        super().__init__()
        self.model, self.branch = model, branch

    def forward(self, x: Tensor) -> Tensor:
        return self.model.embed(x, self.branch)
