"""VICReg: equal views, a standard deviation of at least one, no covariance (a baseline).

Bardes, Ponce, LeCun: VICReg, ICLR 2022, equations 1 to 6; here across two modalities.
"""

import torch
from torch import Tensor
from torch.nn.functional import relu

from decur.config import PretrainSettings
from decur.config.methods import OFFICIAL_RANKS
from decur.distributed import own_dimensions
from decur.errors import DecurError
from decur.losses import Embeddings, Terms
from decur.losses.correlation import (
    check_same_shape,
    gram,
    sum_of_squares,
    sum_over_dimensions,
)

EPS = 1e-4


def vicreg_loss(
    za: Tensor, zb: Tensor, *, sim: float = 25.0, std: float = 25.0, cov: float = 1.0
) -> dict[str, Tensor]:
    """Compute sim * invariance + std * variance + cov * covariance.

    The covariance matrices are never built (see `decur.losses.correlation`).

    Args:
        za: projector outputs (n, K) of this rank's rows.
        zb: projector outputs of the other view, (n, K).
        sim: weight of the mean squared difference.
        std: weight of the mean hinge on each dimension's standard deviation, averaged over the
            views.
        cov: weight of the squared off-diagonal covariances, divided by K, summed over the views.

    Returns:
        Scalars ``loss`` (of the whole batch, over all ranks), ``invariance``, ``variance`` and
        ``covariance`` (before the weights), in float32 or, for float64 inputs, float64.

    Raises:
        DecurError: if the shapes differ, or the whole batch has a single row.
    """
    check_same_shape(za=za, zb=zb)
    k = za.shape[1]
    za, zb = (own_dimensions(z) for z in (za, zb))
    za, zb = (z if z.dtype == torch.float64 else z.float() for z in (za, zb))
    if len(za) < 2:
        raise DecurError("a batch of one row has no variance; use a batch size of 2 or more")
    invariance = sum_over_dimensions((za - zb).square().mean(0)) / k
    terms = [_variance_covariance(z, k) for z in (za, zb)]
    variance = (terms[0][0] + terms[1][0]) / 2
    covariance = terms[0][1] + terms[1][1]
    loss = sim * invariance + std * variance + cov * covariance
    return {
        "loss": loss,
        "invariance": invariance,
        "variance": variance,
        "covariance": covariance,
    }


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute `vicreg_loss` of the two modalities; the released code overweights the covariance.

    Raises:
        DecurError: if the batch is too small for the released code's fault.
    """
    fault = 1.0
    if settings.baselines == "official":
        # It divides the covariance of all rows by the number of rows of one rank.
        rows = settings.batch_size
        if rows <= OFFICIAL_RANKS:
            raise DecurError(
                f"vicreg as released needs a batch of more than {OFFICIAL_RANKS}; raise it"
            )
        fault = ((rows - 1) / (rows / OFFICIAL_RANKS - 1)) ** 2
    return vicreg_loss(z[0][0], z[1][0], cov=fault)


def _variance_covariance(z: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = len(z)
    centred = z - z.mean(0)
    variances = centred.square().sum(0) / (rows - 1)
    squares = sum_of_squares(*[gram(centred)] * 2) * (rows / (rows - 1)) ** 2
    covariance = (squares - sum_over_dimensions(variances.square())) / k
    return sum_over_dimensions(relu(1 - (variances + EPS).sqrt())) / k, covariance
