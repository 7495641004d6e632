"""Build the model and compute the loss of a run, as the registry of methods defines them."""

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
    """A loss module, see `decur.losses`."""

    def method_loss(
        self, z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None
    ) -> Terms: ...


def compute_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute the loss of a run's method on embeddings `z[modality][view]`, and its terms, by name.

    `log_scale` is the model's, see `TwoBranch`.

    Raises:
        DecurError: the method pretrains nothing, or the embeddings do not suit its loss.
    """
    name = METHODS[settings.method].loss
    if name is None:
        raise DecurError(f"method '{settings.method}' has no loss, because it does not pretrain")
    return cast(_Module, import_module(name)).method_loss(z, settings, log_scale)


def build_model(settings: PretrainSettings, shards: PairedShards) -> TwoBranch:
    """Build the seeded two-branch model for the bands of the shards."""
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
