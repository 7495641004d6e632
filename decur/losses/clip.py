"""CLIP's loss on two modalities of one place (a baseline of the paper).

Radford et al.: Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
figure 3 and section 2.5.
"""

import torch
from torch import Tensor

from decur.config import PretrainSettings
from decur.distributed import all_gather_rows, rank, world_size
from decur.losses import Embeddings, Terms
from decur.losses.contrast import contrast, similarities, unit_length
from decur.losses.correlation import check_same_shape

MAX_SCALE = 100.0


def clip_loss(
    za: Tensor, zb: Tensor, *, scale: Tensor | float, symmetric: bool = True
) -> dict[str, Tensor]:
    """Compute the cross entropy of finding each sample's other modality in the whole batch.

    Args:
        za: projector outputs (n, K) of this rank's rows; scaled to unit length here.
        zb: projector outputs of the other modality, (n, K).
        scale: inverse temperature, a number or a learned scalar tensor; values above 100 are
            clamped.
        symmetric: average both directions; False only looks up the second modality given the first,
            as in DeCUR's released code.

    Returns:
        Scalars ``loss`` (of the whole batch, over all ranks) and ``accuracy``; float32 or, for
        float64 inputs, float64.

    Raises:
        DecurError: if the shapes differ.
    """
    check_same_shape(za=za, zb=zb)
    own_a, own_b = unit_length(za), unit_length(zb)
    n, rows = len(za), len(za) * world_size()
    scale = scale.clamp(max=MAX_SCALE) if isinstance(scale, Tensor) else min(scale, MAX_SCALE)
    positive = torch.arange(n, device=za.device) + rank() * n
    terms = contrast(similarities(own_a, all_gather_rows(own_b)) * scale, positive, rows)
    if not symmetric:
        return terms
    back = contrast(similarities(own_b, all_gather_rows(own_a)) * scale, positive, rows)
    return {name: (terms[name] + back[name]) / 2 for name in terms}


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute `clip_loss` of the two modalities.

    As in the released code it has one direction and no learned scale if `log_scale` is None.
    """
    if log_scale is None:
        return clip_loss(z[0][0], z[1][0], scale=1.0, symmetric=False)
    return clip_loss(z[0][0], z[1][0], scale=log_scale.exp())
