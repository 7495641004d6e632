"""Small pretraining runs, and what they leave behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from decur.config import PretrainSettings
from decur.pretrain import loop
from decur.shards import PairedShards
from decur.training.views import augment_batch, read_batch
from decur.weights import read_weights
from tests.support.stopping import KilledError, kill


def settings(**changes: Any) -> PretrainSettings:
    """Two epochs of a tiny network on `shards_root`, with changes."""
    return PretrainSettings(
        **{
            "scenario": "sar-optical",
            "method": "decur",
            "seed": 1,
            "modalities": {"sar": "sar", "optical": "optical"},
            "dataset": "pairs",
            "arch": "tiny",
            "crop": 16,
            "epochs": 2,
            "batch_size": 16,
            "dim": 32,
            "dim_common": 24,
            "checkpoint_steps": 2,
            **changes,
        }
    )


def train_until(step: int, settings: PretrainSettings, shards_root: Path, out: Path) -> None:
    """Pretrain on one process, which is lost when it comes to a step."""

    def read_until_lost(
        shards: PairedShards, rows: Any, settings: PretrainSettings, at: int, *rest: int
    ) -> Any:
        if at == step:
            kill()
        return read_batch(shards, rows, settings, at, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(loop, "read_batch", read_until_lost)
        loop.train_run(settings, shards_root, out)


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """The weights that a run wrote."""
    return read_weights(out / "weights.safetensors")[0]


def log(out: Path) -> list[dict[str, Any]]:
    """The logged steps of a run, without their speed."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "pairs_per_s"} for line in lines]


def draw_views(
    shards: PairedShards, rows: np.ndarray, settings: PretrainSettings, step: int, count: int
) -> list[list[torch.Tensor]]:
    """`count` views per modality of some samples, as a step draws them."""
    batch = read_batch(shards, rows, settings, step, count)
    return augment_batch(batch, settings, torch.device("cpu"))
