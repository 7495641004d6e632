"""Training of a transfer model: linear on a frozen backbone, or fine-tuned.

Frozen means frozen: in the linear protocol the backbones stay in evaluation mode, batch norm
included, and without augmentation what they give of an image is computed once (`FrozenFeatures`).
The released code freezes parameters alone; `frozen_mode: official` does as it does.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from decur.config import Recipe
from decur.errors import DecurError
from decur.models.heads import TransferModel
from decur.transfer.data import NO_CLASS, LabelledData
from decur.transfer.features import FrozenFeatures

Frozen = Literal["eval", "official"]
"""How backbones are frozen while the head trains, see `Transfer.frozen_mode`."""


def batch_loss(logits: Tensor, targets: Tensor, ignore: int | None) -> Tensor:
    """Multi-label soft margin for `(N, classes)` logits, cross-entropy for maps (appendix B).

    A batch of ignored pixels alone gives zero, with a gradient of zero.
    """
    if logits.ndim == 2:
        return F.multilabel_soft_margin_loss(logits, targets)
    ignored = NO_CLASS if ignore is None else ignore
    total = F.cross_entropy(logits, targets, ignore_index=ignored, reduction="sum")
    return total / (targets != ignored).sum().clamp(min=1)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Learning rate at a step of `total`.

    The schedule runs from the first step on and takes over where the warm-up ends (CMX: from 0,
    over 10 of 500 epochs).
    """
    if step < recipe.warm_up * total:
        return recipe.lr * step / (recipe.warm_up * total)
    if recipe.schedule == "steps":
        return recipe.lr * 0.1 ** sum(step >= m * total for m in recipe.milestones)
    if recipe.schedule == "poly":
        decay: float = (1 - step / total) ** 0.9
        return recipe.lr * decay
    return recipe.lr


def train(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    recipe: Recipe,
    *,
    frozen: Frozen | None,
    seed: int,
    features: FrozenFeatures | None = None,
    evaluate: Callable[[float], None] | None = None,
) -> None:
    """Train the head, and the backbones unless `frozen`, on the labelled rows, in place.

    `features`, if given, saves encoding images again and again, without augmentation.
    `evaluate` is called with the number of epochs done, each time `recipe.evaluate_every` more are
    and at the end. It may put the model into evaluation mode, which leaves training as it is.

    Raises:
        DecurError: batch norm in training mode is given a single sample, which it cannot normalise.
    """
    if frozen != "eval" and len(rows) < 2:
        raise DecurError(
            f"{data.shards.root}: batch norm in training mode needs two labelled samples, the "
            "label fraction selects one; raise it"
        )
    torch.manual_seed(seed)
    model.backbones.requires_grad_(frozen is None)
    _training_mode(model, frozen)
    optimizer = recipe_optimizer(model, recipe)
    size = min(data.settings.batch_size, len(rows))
    per_epoch = len(rows) // size
    total = recipe.steps or (recipe.epochs or 0) * per_epoch
    between = recipe.evaluate_every * per_epoch if recipe.evaluate_every else total
    generator = Generator().manual_seed(seed) if data.settings.augment else None
    if generator is not None:
        features = None
    if features is not None:
        features.add(model, data, rows)
    for step, chosen in enumerate(_orders(len(rows), size, total, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, total)
        logits, targets = _predict(model, data, rows[chosen], features, generator)
        loss = batch_loss(logits, targets, data.ignore)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if evaluate is not None and ((step + 1) % between == 0 or step + 1 == total):
            evaluate((step + 1) / per_epoch)
            _training_mode(model, frozen)


def recipe_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of all parameters that are not frozen."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if recipe.decay_1d or p.ndim > 1]
    others = [p for p in parameters if not recipe.decay_1d and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=0.9)
    return torch.optim.AdamW(groups, recipe.lr, fused=True)


def _training_mode(model: TransferModel, frozen: Frozen | None) -> None:
    """All of the model in training mode, but for backbones that are frozen in evaluation mode."""
    model.train()
    if frozen == "eval":
        model.backbones.eval()


def _orders(count: int, size: int, total: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`total` batches of positions below `count`, every epoch shuffled anew."""
    per_epoch = count // size
    for step in range(total):
        epoch, i = divmod(step, per_epoch)
        if i == 0:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        yield order[i * size : (i + 1) * size]


def _predict(
    model: TransferModel,
    data: LabelledData,
    rows: NDArray[np.int64],
    features: FrozenFeatures | None,
    generator: Generator | None,
) -> tuple[Tensor, Tensor]:
    """Logits and targets of the rows, augmented if there is a generator."""
    if features is not None:
        return model.head(features.read(data, rows), features.size), data.targets(rows)
    xs, targets = data.inputs(rows, generator)
    return model(xs), targets
