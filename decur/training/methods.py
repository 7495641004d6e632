"""The pretraining methods: the model each trains, what it looks at, its loss on the embeddings.

A method is a few lines here and a module in `decur.losses`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from decur.config import CONTRASTIVE, OFFICIAL_RANKS, PretrainSettings
from decur.errors import DecurError
from decur.losses.barlow_twins import barlow_twins_loss
from decur.losses.clip import LOG_SCALE, clip_loss
from decur.losses.decur import decur_loss
from decur.losses.simclr import TEMPERATURE, simclr_loss
from decur.losses.vicreg import vicreg_loss
from decur.models.two_branch import TwoBranch
from decur.shards import PairedShards

Embeddings = list[list[Tensor]]
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Method:
    """How many views of each modality a method looks at, and its loss on `z[branch][view]`."""

    views: int
    loss: Callable[[Embeddings, PretrainSettings, TwoBranch], Terms]


def dims_common(settings: PretrainSettings, embedding_dim: int) -> int:
    """Common dimensions of the embedding; without a projector the configured share of it."""
    return round(settings.dim_common / settings.dim * embedding_dim)


def _decur(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    (z1a, *_, z1b), (z2a, *_, z2b) = z if settings.intra else [branch * 2 for branch in z]
    return decur_loss(
        z1a,
        z1b,
        z2a,
        z2b,
        dim_common=dims_common(settings, z1a.shape[1]),
        lambd=settings.lambd,
        weighting=settings.weighting,
        intra=settings.intra,
    )


def _barlow_twins(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    return barlow_twins_loss(z[0][0], z[1][0], lambd=settings.lambd)


def _barlow_twins_single(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    """Each modality alone; nothing is shared, so the sum trains both as if each had its own run."""
    terms = [barlow_twins_loss(*views, lambd=settings.lambd)["loss"] for views in z]
    return {"loss": terms[0] + terms[1], "intra1": terms[0], "intra2": terms[1]}


def _vicreg(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    fault = 1.0
    if settings.baselines == "official":
        # It divides the covariance of all rows by those of one of its ranks.
        rows = settings.batch_size
        if rows <= OFFICIAL_RANKS:
            raise DecurError(f"vicreg as released needs a batch of more than {OFFICIAL_RANKS}")
        fault = ((rows - 1) / (rows / OFFICIAL_RANKS - 1)) ** 2
    return vicreg_loss(z[0][0], z[1][0], cov=fault)


def _simclr(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    temperature = 1.0 if settings.baselines == "official" else TEMPERATURE
    return simclr_loss(z[0][0], z[1][0], temperature=temperature)


def _clip(z: Embeddings, settings: PretrainSettings, model: TwoBranch) -> Terms:
    if model.log_scale is None:
        return clip_loss(z[0][0], z[1][0], scale=1.0, symmetric=False)
    return clip_loss(z[0][0], z[1][0], scale=model.log_scale.exp())


METHODS = {
    "decur": Method(2, _decur),
    "barlow-twins": Method(1, _barlow_twins),
    "barlow-twins-single": Method(2, _barlow_twins_single),
    "vicreg": Method(1, _vicreg),
    "simclr": Method(1, _simclr),
    "clip": Method(1, _clip),
}


def count_views(settings: PretrainSettings) -> int:
    """Views of each modality that a run draws; DeCUR without intra-modal terms needs one."""
    without = settings.method == "decur" and not settings.intra
    return 1 if without else METHODS[settings.method].views


def build_model(settings: PretrainSettings, shards: PairedShards) -> TwoBranch:
    """The seeded two-branch model for the bands of the shards."""
    torch.manual_seed(settings.seed)
    learns_scale = settings.method == "clip" and settings.baselines == "paper"
    return TwoBranch(
        [settings.arch_of(name) for name in settings.modalities],
        [len(shards.bands(name)) for name in settings.modalities],
        dim=settings.dim,
        layers=settings.projector_layers,
        hidden=settings.projector_hidden,
        shared=settings.projector == "shared" and settings.method != "barlow-twins-single",
        contrastive=settings.method in CONTRASTIVE,
        head_dim=settings.head_dim,
        log_scale=LOG_SCALE if learns_scale else None,
    )
