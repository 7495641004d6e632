"""DeCUR: align the common dimensions of two modalities, decorrelate the unique ones.

The first `dim_common` of the K embedding dimensions are common, the others are unique. Across
modalities the loss drives the common block of the cross-correlation to the identity and the unique
block to zero. Within each modality it drives all dimensions to the identity, so that the unique
ones do not collapse (paper §3, eqs. 2-6). The blocks between common and unique dimensions are not
constrained.
"""

from typing import Literal

from torch import Tensor

from decur.config import PretrainSettings, dims_common
from decur.distributed import own_dimensions, own_share
from decur.errors import DecurError
from decur.losses import Embeddings, Terms
from decur.losses.barlow_twins import LAMBDA, identity_terms
from decur.losses.correlation import (
    check_same_shape,
    diagonal,
    gram,
    standardise,
    sum_of_squares,
    sum_over_dimensions,
)

Weighting = Literal["paper", "official"]


def decur_loss(
    z1a: Tensor,
    z1b: Tensor,
    z2a: Tensor,
    z2b: Tensor,
    *,
    dim_common: int,
    lambd: float = LAMBDA,
    weighting: Weighting = "paper",
    intra: bool = True,
) -> dict[str, Tensor]:
    """Compute the DeCUR loss of the whole batch.

    Args:
        z1a: projector outputs (n, K) of this rank's rows, modality 1, first view; standardised
            here. The cross-modal terms use only the first views.
        z1b: modality 1, second view, (n, K).
        z2a: modality 2, first view, (n, K).
        z2b: modality 2, second view, (n, K).
        dim_common: number of common dimensions, 0 to K.
        lambd: weight of the off-diagonal entries in every term.
        weighting: "paper" sums the four terms (eq. 6); "official", as in the released code, is
            (intra1 + intra2 + (common + unique) / 2) / 3, which halves the cross-modal weight.
        intra: False drops the two intra-modal terms from either sum and ignores the second views
            (the ablation "w/o intra").

    Returns:
        Scalars ``loss``, ``intra1``, ``intra2`` (both zero without `intra`), ``common`` and
        ``unique`` (zero if there are no such dimensions). The terms are weighted only by `lambd`.
        All are over all ranks, in float32 or, for float64 inputs, float64.

    Raises:
        DecurError: if the shapes differ, the whole batch has a single row, `dim_common` is
            outside 0 to K, or `weighting` is unknown.
    """
    check_same_shape(z1a=z1a, z1b=z1b, z2a=z2a, z2b=z2b)
    k = z1a.shape[1]
    if not 0 <= dim_common <= k:
        raise DecurError(f"dim_common must be between 0 and the embedding's {k}, got {dim_common}")
    if weighting not in ("paper", "official"):
        raise DecurError(f'weighting must be "paper" or "official", got "{weighting}"')

    own = own_share(k)
    first_unique = min(max(dim_common - own.start, 0), own.stop - own.start)
    z1, z2 = (standardise(own_dimensions(z)) for z in (z1a, z2a))
    common1, common2 = (gram(z[:, :first_unique]) for z in (z1, z2))
    unique1, unique2 = (gram(z[:, first_unique:]) for z in (z1, z2))
    across = diagonal(z1, z2)
    on, off = identity_terms(across[:first_unique], sum_of_squares(common1, common2))
    common = on + lambd * off
    unique_on = sum_over_dimensions(across[first_unique:].square())
    unique = unique_on + lambd * (sum_of_squares(unique1, unique2) - unique_on)

    def within(z: Tensor, gram_first: Tensor, second: Tensor) -> Tensor:
        second = standardise(own_dimensions(second))
        squares = sum_of_squares(gram_first, gram(second))
        on, off = identity_terms(diagonal(z, second), squares)
        return on + lambd * off

    if intra:
        intra1 = within(z1, common1 + unique1, z1b)
        intra2 = within(z2, common2 + unique2, z2b)
    else:
        intra1 = intra2 = common.new_zeros(())

    if weighting == "paper":
        loss = intra1 + intra2 + common + unique
    else:
        loss = (intra1 + intra2 + (common + unique) / 2) / 3
    return {
        "loss": loss,
        "intra1": intra1,
        "intra2": intra2,
        "common": common,
        "unique": unique,
    }


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Compute `decur_loss` of two views per modality, or of one view without intra-modal terms."""
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
