"""SimCLR across modalities: distinguish a sample's other view from all other samples (a baseline).

Chen et al.: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020,
equation 1; the two views of a sample are its two modalities.
"""

import torch
from torch import Tensor

from decur.config import PretrainSettings
from decur.distributed import all_gather_rows, rank, world_size
from decur.losses import Embeddings, Terms
from decur.losses.contrast import contrast, similarities, unit_length
from decur.losses.correlation import check_same_shape

TEMPERATURE = 0.1  # of SimCLR's own ImageNet training; DeCUR's released code uses 1


def simclr_loss(za: Tensor, zb: Tensor, *, temperature: float = TEMPERATURE) -> dict[str, Tensor]:
    """Compute the normalised temperature-scaled cross entropy over the 2N views of the batch.

    Each view is an anchor. Its positive is the same sample in the other modality. Its negatives are
    all other views of both modalities.

    Args:
        za: projector outputs (n, K) of this rank's rows; scaled to unit length here.
        zb: projector outputs of the other modality, (n, K).
        temperature: divisor of the cosine similarities.

    Returns:
        Scalars ``loss`` (of the whole batch, over all ranks) and ``accuracy``, the fraction of
        anchors whose positive is nearest; float32 or, for float64 inputs, float64.

    Raises:
        DecurError: if the shapes differ.
    """
    check_same_shape(za=za, zb=zb)
    own = [unit_length(z) for z in (za, zb)]
    n, rows = len(za), len(za) * world_size()
    every = torch.cat([all_gather_rows(z) for z in own])
    logits = similarities(torch.cat(own), every) / temperature
    place = torch.arange(n, device=za.device) + rank() * n
    itself, positive = torch.cat([place, place + rows]), torch.cat([place + rows, place])
    logits = logits.scatter(1, itself[:, None], -torch.inf)
    return contrast(logits, positive, 2 * rows)


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute `simclr_loss` of the two modalities."""
    temperature = 1.0 if settings.baselines == "official" else TEMPERATURE
    return simclr_loss(z[0][0], z[1][0], temperature=temperature)
