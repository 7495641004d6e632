"""Build the model and the labelled data of a cell, for protocols that need labels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from decur import datasets
from decur.artifacts.paths import Cell
from decur.config.datasets import DATASETS
from decur.config.protocols import PROTOCOLS
from decur.errors import DecurError
from decur.models.backbone import Backbone
from decur.models.cmx import CMX
from decur.models.heads import FCN, LateFusion, TransferModel
from decur.shards import PairedShards
from decur.transfer.cell import CellInputs, MetricsRecord
from decur.transfer.data import LabelledData, classes_shown, label_subset
from decur.transfer.features import FrozenFeatures
from decur.transfer.predictions import Predictions
from decur.weights import branch_weights, load_backbone

HELD_OUT = 10
"""One in this many labelled samples is held out to choose a setting of the protocol."""


@dataclass(frozen=True)
class Task:
    """A fresh model, its labelled data, and the rows for training and for evaluation.

    `features` are those of its backbones, if they are frozen in evaluation mode. `keep` collects
    the trained model's predictions of the evaluation rows. `other_rows` are the rows of the
    dataset's other labelled splits, by name.
    """

    model: TransferModel
    data: LabelledData
    facts: datasets.Dataset
    rows: NDArray[np.int64]
    test_rows: NDArray[np.int64]
    seed: int
    features: FrozenFeatures | None = None
    keep: Predictions | None = None
    other_rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def labelled(self) -> tuple[str, ...]:
        """List the ids of the samples that the task may train on."""
        return tuple(self.data.shards.index["id"].iloc[self.rows])


def build_task(inputs: CellInputs) -> Task:
    """Put a fresh, seeded head on the pretrained backbones, and choose the cell's data."""
    cell, shards, seed = inputs.cell, inputs.shards, inputs.pretrain.seed
    protocol, dataset, presets = PROTOCOLS[cell.protocol], inputs.dataset, inputs.presets
    views, _ = inputs.transfer.protocol(cell.protocol)
    torch.manual_seed(seed)
    backbones = _backbones(inputs, presets)
    heads = {"classification": LateFusion, "segmentation": FCN}
    head = CMX if protocol.head == "cmx" else heads[views.task]
    model = head(backbones, len(dataset.classes))
    official = inputs.transfer.classifier_init == "official"
    if official and isinstance(model, LateFusion) and protocol.trains == "all":
        model.classifier.reset_parameters()
    model.to(inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Task(
        model,
        LabelledData(shards, presets, views, dataset.ignore, inputs.device),
        dataset,
        rows=_labelled_rows(cell, shards, seed),
        test_rows=shards.rows(dataset.evaluation, labelled=True),
        seed=seed,
        keep=Predictions(shards, dataset, inputs.transfer.predictions),
        other_rows=_other_rows(cell.dataset, shards),
    )


def _other_rows(dataset: str, shards: PairedShards) -> dict[str, NDArray[np.int64]]:
    """Find the labelled rows of a built-in dataset's unused splits, where there are any."""
    index = shards.index
    unused = DATASETS[dataset].unused if dataset in DATASETS else ()
    labelled = index["split"][index["labelled"].to_numpy(dtype=bool)]
    return {name: shards.rows(name, labelled=True) for name in unused if (labelled == name).any()}


def _backbones(inputs: CellInputs, names: Iterable[str]) -> list[Backbone]:
    order = list(inputs.pretrain.modalities)
    return [
        load_backbone(
            branch_weights(inputs.tensors, order.index(name)),
            arch=inputs.pretrain.arch_of(name),
            in_chans=len(inputs.shards.bands(name)),
        )
        for name in names
    ]


def _labelled_rows(cell: Cell, shards: PairedShards, seed: int) -> NDArray[np.int64]:
    rows = shards.rows("train", labelled=True)
    return rows[label_subset(shards.index["id"].iloc[rows].tolist(), cell.labels, seed)]


def hold_out(task: Task) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the labelled rows by the seed into rows to train on and a tenth, both ascending.

    The evaluation samples are not used for any choice that is made on that tenth.
    """
    order = np.random.default_rng(task.seed).permutation(task.rows)
    held, rest = np.split(order, [len(order) // HELD_OUT])
    return np.sort(rest), np.sort(held)


def labels_found(task: Task) -> MetricsRecord:
    """Report classes without labels, and what is evaluated (`samples_evaluated`).

    `untrained_classes` are those without training labels. `evaluated` includes `classes`, the
    number of classes that a metric may count, and `absent_classes`, those without evaluation
    labels.

    Raises:
        DecurError: labels outside the dataset's classes, or evaluation labels of fewer than two
            classes: a metric over a single class is meaningless.
    """
    classes, shards = task.facts.classes, task.data.shards
    trained, evaluated = (
        classes_shown(task.data, rows, classes) for rows in (task.rows, task.test_rows)
    )
    counted = [i for i in range(len(classes)) if i != task.facts.ignore]
    there = [classes[i] for i in counted if evaluated[i]]
    if len(there) < 2:
        shown = f"only the class '{there[0]}'" if there else "no class"
        raise DecurError(
            f"{shards.root}: the labels of the split '{task.facts.evaluation}' show {shown}, but "
            "a metric needs two; correct the labels or choose another split"
        )
    return {
        "untrained_classes": [classes[i] for i in counted if not trained[i]],
        "evaluated": samples_evaluated(shards, task.facts, len(task.test_rows))
        | {
            "classes": len(counted),
            "absent_classes": [classes[i] for i in counted if not evaluated[i]],
        },
    }


def samples_evaluated(shards: PairedShards, facts: datasets.Dataset, count: int) -> MetricsRecord:
    """Count the evaluated `samples`, and the bad samples of their split that were `left_out`."""
    left_out = shards.card.quarantined_by_split.get(facts.evaluation, 0)
    return {"samples": count, "left_out": left_out}
