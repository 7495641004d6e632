"""Logistic regression of labels on features: the objective, and its optimum by L-BFGS.

Labels are float 0/1 `(n, classes)` for multi-label tasks, with one binary regression per class, or
int64 `(n,)` from 0 for one class per sample, with one multinomial regression. The objective is that
of torchgeo-bench (`linear.py`) and, times a constant, of scikit-learn.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 16384
"""Samples whose scatter is added up in float64 at once."""
HISTORY = 10
"""Steps of curvature history that L-BFGS keeps."""
CURVATURE = 0.25
"""The largest second derivative of the logistic loss, at a probability of one half."""


@dataclass(frozen=True)
class Logistic:
    """A fitted regression: `weight` `(classes, d)` and `bias` `(classes,)` on features `(n, d)`.

    With `multi_label` every class has an independent probability. Otherwise the bias is -inf for a
    class without training samples.
    """

    weight: Tensor
    bias: Tensor
    multi_label: bool

    def probabilities(self, features: Tensor) -> Tensor:
        """Compute the probability of each class `(m, classes)` for features `(m, d)`."""
        logits = F.linear(features, self.weight, self.bias)
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


@dataclass(frozen=True)
class Basis:
    """Coordinates in which the objective curves about equally in all directions.

    Attributes:
        centred: the features minus their mean `(n, d)`. The bias is not penalised, so shifting the
            features changes only the bias of the optimum.
        mean: `(d,)`.
        variances: of the principal directions, float64 `(d,)`.
        directions: the principal directions, one per row, float64 `(d, d)`.
    """

    centred: Tensor
    mean: Tensor
    variances: Tensor
    directions: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Find the principal directions of features `(n, d)`, which are copied once."""
        mean = features.mean(dim=0)
        centred = features - mean
        width = features.shape[1]
        scatter = torch.zeros(width, width, dtype=torch.double, device=features.device)
        for part in centred.split(CHUNK):
            rows = part.double()
            scatter.addmm_(rows.T, rows)
        variances, columns = torch.linalg.eigh(scatter / len(features))
        return cls(centred, mean, variances.clamp(min=0), columns.T)

    def scaled(self, c: float) -> Tensor:
        """Compute the coordinate directions for a regularisation, one per row `(d, d)`."""
        curvature = CURVATURE * self.variances + 1 / (c * len(self.centred))
        return (curvature.rsqrt()[:, None] * self.directions).to(self.centred)


def objective(weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, c: float) -> Tensor:
    """Compute mean cross-entropy plus `||weight||^2 / (2 c)` divided by the number of terms.

    The terms are the samples, or for multi-label tasks all pairs of a sample and a class. The bias
    is not penalised.

    Args:
        weight: `(classes, d)`.
        bias: `(classes,)`.
        features: `(n, d)`.
        labels: see the module.
        c: the inverse strength of the penalty, above 0.
    """
    logits = F.linear(features, weight, bias)
    if labels.ndim == 2:
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits))
    else:
        loss = F.cross_entropy(logits, labels)
    return loss + weight.square().sum() / (2 * c * labels.numel())


def fit_logistic(
    basis: Basis,
    labels: Tensor,
    c: float,
    *,
    classes: int,
    steps: int = 1000,
    tolerance: float = 1e-4,
) -> Logistic:
    """Minimise `objective` by L-BFGS with a strong Wolfe line search, from zeros.

    It stops when the objective or all coordinates change by less than a tenth of `tolerance`, or
    after `steps`, as in torchgeo-bench. Unlike there, it uses rescaled coordinates, because
    features of a network are not centred and their variances differ widely, to which L-BFGS is
    sensitive. The optimum is the same.

    Args:
        basis: of the training features `(n, d)`; sets the precision and device of the computation.
        labels: of the training samples, see the module.
        c: the inverse strength of the penalty, above 0.
        classes: number of classes. For single labels, classes that `labels` lacks are left out and
            get probability 0.
        steps: maximum number of iterations.
        tolerance: see above.
    """
    multi_label = labels.ndim == 2
    kept = torch.arange(classes, device=labels.device)
    if not multi_label:
        kept, labels = labels.unique(return_inverse=True)
    centred, width = basis.centred, basis.centred.shape[1]
    directions = basis.scaled(c)
    spread = CURVATURE**-0.5
    coordinates = centred.new_zeros(len(kept), width, requires_grad=True)
    offset = centred.new_zeros(len(kept), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [coordinates, offset],
        max_iter=steps,
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-7,
        tolerance_change=tolerance / 10,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(coordinates @ directions, spread * offset, centred, labels, c)
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        found = coordinates @ directions
        weight = centred.new_zeros(classes, width)
        bias = centred.new_full((classes,), -torch.inf)
        weight[kept] = found
        bias[kept] = spread * offset - found @ basis.mean
    return Logistic(weight, bias, multi_label)
