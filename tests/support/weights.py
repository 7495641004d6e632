"""Weights of small untrained networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from decur.artifacts.provenance import Origin
from decur.artifacts.records import Weights
from decur.models.two_branch import TwoBranch
from decur.weights import save_model

WINDOW = 32


def save(
    path: Path,
    bands: Mapping[str, Sequence[str]],
    dataset: str = "mine",
    limits: Mapping[str, Any] | None = None,
    presets: Mapping[str, str] | None = None,
) -> TwoBranch:
    """Weights of an untrained tiny net, as pretraining leaves them."""
    torch.manual_seed(0)
    model = TwoBranch("tiny", [len(b) for b in bands.values()], dim=8, layers=1)
    settings = {
        "arch": "tiny",
        "crop": WINDOW,
        "dataset": dataset,
        "modalities": presets or dict.fromkeys(bands, "measured"),
    }
    metadata = Weights(provenance=Origin(settings=settings), bands=bands, limits=limits or {})
    save_model(path, model.eval(), metadata)
    return model
