"""Barlow Twins: make the cross-correlation matrix of two views the identity.

This is the cross-modal baseline of the paper (on the first views of two modalities) and DeCUR's
intra-modal term (paper §3.1, eq. 2).
"""

from torch import Tensor

from decur.config import PretrainSettings
from decur.distributed import own_dimensions
from decur.losses import Embeddings, Terms
from decur.losses.correlation import (
    check_same_shape,
    diagonal,
    gram,
    standardise,
    sum_of_squares,
    sum_over_dimensions,
)

LAMBDA = 0.0051  # paper §4; weight of the off-diagonal entries, the same in every term


def barlow_twins_loss(za: Tensor, zb: Tensor, *, lambd: float = LAMBDA) -> dict[str, Tensor]:
    """Compute sum_i (1 - C_ii)^2 + lambd sum_{i != j} C_ij^2.

    Args:
        za: projector outputs (n, K) of this rank's rows; standardised here.
        zb: projector outputs of the other view, (n, K).
        lambd: weight of the off-diagonal term.

    Returns:
        Scalars ``loss`` (of the whole batch, over all ranks), ``on_diagonal`` and
        ``off_diagonal`` (before the weight), in float32 or, for float64 inputs, float64.

    Raises:
        DecurError: if the shapes differ, or the whole batch has a single row.
    """
    check_same_shape(za=za, zb=zb)
    za, zb = (standardise(own_dimensions(z)) for z in (za, zb))
    squares = sum_of_squares(gram(za), gram(zb))
    on_diagonal, off_diagonal = identity_terms(diagonal(za, zb), squares)
    loss = on_diagonal + lambd * off_diagonal
    return {"loss": loss, "on_diagonal": on_diagonal, "off_diagonal": off_diagonal}


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute `barlow_twins_loss` of the two modalities."""
    return barlow_twins_loss(z[0][0], z[1][0], lambd=settings.lambd)


def identity_terms(diagonal: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    """Split the distance of a correlation matrix from the identity into on- and off-diagonal.

    Args:
        diagonal: its diagonal, (k,) of this rank's dimensions.
        squares: the sum of all its squared entries, a scalar.
    """
    on = sum_over_dimensions((1 - diagonal).square())
    return on, squares - sum_over_dimensions(diagonal.square())
