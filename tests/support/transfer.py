"""Small transfers on the shards of the fixture."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from decur import datasets
from decur.config import Transfer, TransferSettings
from decur.config.presets import Preset
from decur.datasets import Dataset
from decur.models.heads import FCN
from decur.shards import PairedShards
from decur.transfer.data import LabelledData
from tests.support.pretraining import settings as pretrain_settings

PRESETS: dict[str, Preset] = {"sar": "sar", "optical": "optical"}


def recipe(task: str = "classification", **changes: Any) -> Transfer:
    """A recipe of a few epochs, with changes."""
    head = {"optimizer": "adamw", "lr": 0.01, "epochs": 12}
    tree = {"task": task, "crop": 16, "batch_size": 12, "linear": head, "fine_tune": head}
    return Transfer.model_validate({**tree, **changes})


def labelled(shards_root: Path, chosen: Transfer, ignore: int | None = None) -> LabelledData:
    """The labelled samples of both modalities, as a recipe reads them."""
    return LabelledData(PairedShards(shards_root), PRESETS, chosen, ignore, torch.device("cpu"))


class DroppingFCN(FCN):
    """An FCN that drops half of what it is given, in training."""

    def head(self, parts: Sequence[Sequence[Tensor]], size: tuple[int, int]) -> Tensor:
        dropped = [[F.dropout(x, 0.5, self.training) for x in part] for part in parts]
        return super().head(dropped, size)


def as_dataset(
    monkeypatch: pytest.MonkeyPatch, classes: Iterable[str], ignore: int | None = None
) -> None:
    """Make the fixture's shards a dataset of such classes."""
    facts = Dataset("pairs", "Pairs", (), "none", "none", classes=tuple(classes), ignore=ignore)
    monkeypatch.setattr(datasets, "facts", lambda name, card: facts)


def transfer_settings(chosen: Transfer) -> TransferSettings:
    """Settings of the transfer of a run whose dataset is `pairs`."""
    base = pretrain_settings(epochs=1)
    return TransferSettings(
        run="sar-optical/decur/default/seed-1", pretrain=base, recipes={"pairs": chosen}
    )
