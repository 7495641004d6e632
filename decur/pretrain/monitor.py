"""Measure the health of embeddings during pretraining: alignment, spread and collapse."""

import math

import torch
from torch import Tensor

from decur.distributed import own_dimensions
from decur.losses.correlation import diagonal, standardise, sum_over_dimensions


@torch.no_grad()
def signs(embeddings: list[list[Tensor]], dim_common: int | None = None) -> dict[str, float]:
    """Measure alignment and spread of embeddings `z[branch][view]` (n, K) of this rank's rows.

    Returns:
        ``align_cross`` and, for two views, ``align_intra<i>``: the mean diagonal of the
        cross-correlation; 1 is aligned. If only the first `dim_common` dimensions are common, also
        ``align_common`` and ``align_unique``, the same for the two groups of dimensions. Per branch
        ``std<i>``, the mean standard deviation of the dimensions of unit-length embeddings times
        sqrt(K): about 1, or 0 after collapse; and ``rank<i>``, the effective rank of the
        embeddings.
    """
    z1, z2 = embeddings[0][0], embeddings[1][0]
    k = z1.shape[1]
    found = {"align_cross": _alignment(z1, z2, slice(0, k))}
    if dim_common is not None and 0 < dim_common < k:
        found["align_common"] = _alignment(z1, z2, slice(0, dim_common))
        found["align_unique"] = _alignment(z1, z2, slice(dim_common, k))
    for i, views in enumerate(embeddings, start=1):
        if len(views) > 1:
            found[f"align_intra{i}"] = _alignment(views[0], views[1], slice(0, k))
        z = views[0].float()
        unit = torch.nn.functional.normalize(z, dim=1)
        found[f"std{i}"] = float(unit.std(0).mean() * z.shape[1] ** 0.5)
        found[f"rank{i}"] = effective_rank(z)
    return found


@torch.no_grad()
def effective_rank(z: Tensor) -> float:
    """Compute the exponential of the entropy of the spectrum of standardised embeddings (n, K).

    It is at most min(n - 1, K); Roy and Vetterli, EUSIPCO 2007. NaN if an embedding is not finite.
    """
    if not z.isfinite().all():
        return math.nan
    z = z - z.mean(0)
    z = z / z.std(0, correction=0).clamp(min=1e-6)
    smaller = z @ z.T if z.shape[0] <= z.shape[1] else z.T @ z
    spectrum = torch.linalg.eigvalsh(smaller.double()).clamp(min=0)
    share = spectrum / spectrum.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum().exp())


def _alignment(za: Tensor, zb: Tensor, part: slice) -> float:
    own = [standardise(own_dimensions(z[:, part])) for z in (za, zb)]
    return float(sum_over_dimensions(diagonal(*own)) / (part.stop - part.start))
