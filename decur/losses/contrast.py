"""Shared parts of the contrastive losses: cosine similarities and the cross entropy."""

import torch
import torch.nn.functional as F
from torch import Tensor

from decur.distributed import all_reduce_sum


def unit_length(z: Tensor) -> Tensor:
    """Scale each row to unit length, in float32 unless float64: (n, K) -> (n, K)."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)


def similarities(za: Tensor, zb: Tensor) -> Tensor:
    """Multiply all pairs of rows (n, K), (m, K) -> (n, m), in full precision under autocast too."""
    with torch.autocast(za.device.type, enabled=False):
        return za @ zb.T


def contrast(logits: Tensor, positive: Tensor, anchors: int) -> dict[str, Tensor]:
    """Compute mean cross entropy and accuracy over the anchors of all ranks.

    Args:
        logits: (own anchors, candidates).
        positive: the right candidate of each own anchor, (own anchors,) int64.
        anchors: number of anchors over all ranks.
    """
    loss = all_reduce_sum(F.cross_entropy(logits, positive, reduction="sum")) / anchors
    with torch.no_grad():
        right = all_reduce_sum((logits.argmax(1) == positive).sum().to(logits.dtype)) / anchors
    return {"loss": loss, "accuracy": right}
