"""What the registry of methods names, made: the model that a run trains, and its loss."""

from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from decur.config import PretrainSettings
from decur.config.methods import METHODS
from decur.errors import DecurError
from decur.losses import Embeddings, Terms
from decur.models.two_branch import TwoBranch
from decur.shards import PairedShards


class _Module(Protocol):
    """A module of a loss, see `decur.losses`."""

    def method_loss(
        self, z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None
    ) -> Terms: ...


def compute_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """The loss of a run's method on embeddings `z[modality][view]`, and its terms, by name.

    `log_scale` is the model's, see `TwoBranch`.

    Raises:
        DecurError: the method pretrains nothing, or the embeddings do not suit its loss.
    """
    name = METHODS[settings.method].loss
    if name is None:
        raise DecurError(f"method '{settings.method}': pretrains nothing, so it has no loss")
    return cast(_Module, import_module(name)).method_loss(z, settings, log_scale)


def build_model(settings: PretrainSettings, shards: PairedShards) -> TwoBranch:
    """The seeded two-branch model for the bands of the shards."""
    torch.manual_seed(settings.seed)
    method = METHODS[settings.method]
    return TwoBranch(
        [settings.arch_of(name) for name in settings.modalities],
        [len(shards.bands(name)) for name in settings.modalities],
        dim=settings.dim,
        layers=settings.projector_layers,
        hidden=settings.projector_hidden,
        shared=settings.projector == "shared" and not method.single,
        contrastive=method.contrastive,
        head_dim=settings.head_dim,
        log_scale=method.log_scale if settings.baselines == "paper" else None,
    )
