"""The inputs and results of a protocol, which evaluates one cell of a table.

Every protocol is a module that is listed in `decur.config.protocols.PROTOCOLS` and has
`evaluate(inputs: CellInputs) -> CellResult`.
"""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from decur import datasets
from decur.artifacts.ownership import write_ours
from decur.artifacts.paths import Cell
from decur.artifacts.predictions import PREDICTIONS
from decur.config import PretrainSettings, Transfer, TransferSettings
from decur.config.presets import Preset
from decur.config.protocols import PROTOCOLS
from decur.config.strict import did_you_mean
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.training.resume import Journal
from decur.transfer.features import FrozenFeatures
from decur.transfer.predictions import Predictions

LABELS = "labels.txt"

MetricsRecord = dict[str, Any]
"""The protocol's part of metrics.json: `metrics` in percent, and further results."""


@dataclass(frozen=True)
class CellInputs:
    """A pretrained run, and the dataset that it is evaluated on.

    `tensors` are the run's weights, by name. `features` are the outputs of its frozen backbones for
    earlier cells of the same dataset. `journal` keeps the progress of this cell.
    """

    settings: TransferSettings
    cell: Cell
    tensors: dict[str, Tensor]
    shards: PairedShards
    device: torch.device
    features: FrozenFeatures
    journal: Journal = field(default_factory=Journal)

    @property
    def pretrain(self) -> PretrainSettings:
        """Return the settings with which the run was pretrained."""
        return self.settings.pretrain

    @property
    def transfer(self) -> Transfer:
        """Return the recipe of the cell's dataset; protocols without labels do not need one.

        Raises:
            DecurError: the settings have none.
        """
        if self.cell.dataset not in self.settings.recipes:
            raise DecurError(
                f"cell '{self.cell}': the settings have no recipe for its dataset; add one"
            )
        return self.settings.recipes[self.cell.dataset]

    @property
    def dataset(self) -> datasets.Dataset:
        """Return the facts about the cell's dataset."""
        return datasets.facts(self.cell.dataset, self.shards.card)

    @property
    def presets(self) -> dict[str, Preset]:
        """Return the cell's modalities with their presets, see `chosen_modalities`."""
        return chosen_modalities(self.settings, self.cell)

    @property
    def whole_image_features(self) -> FrozenFeatures | None:
        """Return the features to share with other cells, or None if views differ between epochs.

        Without augmentation or windows the views are whole images, and the settings guarantee that
        their features fit into memory.
        """
        seen_anew = self.transfer.augment or self.transfer.sliding is not None
        return None if seen_anew else self.features


@dataclass(frozen=True)
class CellResult:
    """The results of a cell; with labels, also the ids of its training samples, and predictions."""

    record: MetricsRecord
    labelled: tuple[str, ...] | None = None
    predictions: Predictions | None = None

    def write(self, folder: Path) -> None:
        """Write the files that belong beside metrics.json."""
        if self.predictions is not None:
            self.predictions.write(folder / PREDICTIONS)
        if self.labelled is not None:
            _write_lines(folder / LABELS, self.labelled)


def evaluate_cell(inputs: CellInputs) -> CellResult:
    """Evaluate a cell by its protocol.

    Raises:
        DecurError: there is no such protocol, or it does not fit the data.
    """
    name = inputs.cell.protocol
    if name not in PROTOCOLS:
        hint = did_you_mean(name, PROTOCOLS)
        raise DecurError(f"cell '{inputs.cell}': no protocol '{name}'{hint}")
    result: CellResult = importlib.import_module(PROTOCOLS[name].module).evaluate(inputs)
    return result


def chosen_modalities(settings: TransferSettings, cell: Cell) -> dict[str, Preset]:
    """Select the cell's modalities with their presets, in the order of the scenario.

    Raises:
        DecurError: the scenario has no such modality.
    """
    known = settings.pretrain.modalities
    for name in cell.modalities.split("+"):
        if name not in known:
            raise DecurError(f"cell '{cell}': no modality '{name}' (known: {', '.join(known)})")
    wanted = cell.modalities.split("+")
    return {name: preset for name, preset in known.items() if name in wanted}


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_ours(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
