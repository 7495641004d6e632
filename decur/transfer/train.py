"""Train a transfer model: a head on frozen backbones, or the full model (fine-tuning).

Frozen backbones do not change at all. In the linear protocol they stay in evaluation mode,
including batch norm, and without augmentation each image is encoded only once (`FrozenFeatures`).
The released code freezes only the parameters; `frozen_mode: official` reproduces that.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from decur.config import Recipe
from decur.errors import DecurError
from decur.models.heads import TransferModel
from decur.training.resume import Journal
from decur.transfer.data import NO_CLASS, LabelledData
from decur.transfer.features import FrozenFeatures
from decur.transfer.state import Frozen, TrainingState
from decur.transfer.steps import steps_ahead


def batch_loss(logits: Tensor, targets: Tensor, ignore: int | None) -> Tensor:
    """Compute multi-label soft margin of `(N, classes)` logits, cross-entropy of maps (appendix B).

    A batch with only ignored pixels gives zero, with a gradient of zero.
    """
    if logits.ndim == 2:
        return F.multilabel_soft_margin_loss(logits, targets)
    ignored = NO_CLASS if ignore is None else ignore
    total = F.cross_entropy(logits, targets, ignore_index=ignored, reduction="sum")
    return total / (targets != ignored).sum().clamp(min=1)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Compute the learning rate at a step of `total`.

    The schedule runs from the first step and takes over when the warm-up ends (CMX: from 0, over 10
    of 500 epochs).
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
    journal: Journal | None = None,
) -> None:
    """Train the head, and the backbones unless `frozen`, on the labelled rows, in place.

    `features`, if given, avoids encoding the images again in every epoch; it needs training without
    augmentation. `evaluate` is called with the number of epochs done, after every
    `recipe.evaluate_every` epochs and at the end. It may put the model into evaluation mode, which
    does not affect training. `journal` saves the training, which continues where an earlier job
    left it, bit-identical on a CPU. An evaluation that was due at that point is called again.

    Raises:
        DecurError: batch norm in training mode gets a single sample, which it cannot normalise.
        StoppedError: the job was asked to stop.
    """
    if frozen != "eval" and len(rows) < 2:
        raise DecurError(
            f"{data.shards.root}: batch norm in training mode needs two labelled samples, but the "
            "label fraction selects one; raise it"
        )
    torch.manual_seed(seed)
    model.backbones.requires_grad_(frozen is None)
    optimizer = recipe_optimizer(model, recipe)
    journal = journal or Journal()
    state = TrainingState(model, optimizer, frozen, seed if data.settings.augment else None)
    state.go_on(journal)
    if state.generator is not None:
        features = None
    if features is not None:
        features.add(model, data, rows)
    size = min(data.settings.batch_size, len(rows))
    per_epoch = len(rows) // size
    total = recipe.steps or (recipe.epochs or 0) * per_epoch
    between = recipe.evaluate_every * per_epoch if recipe.evaluate_every else total

    def look() -> None:
        done = state.done
        if evaluate is not None and done and (done % between == 0 or done == total):
            evaluate(done / per_epoch)
        _training_mode(model, frozen)
        journal.look()

    look()
    chosen = (rows[positions] for positions in _orders(len(rows), size, total, seed, state.done))
    for step, take in steps_ahead(data, chosen, features, state.generator):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.done, total)
        parts, targets = take()
        if features is None:
            logits = model([x for (x,) in parts])
        else:
            logits = model.head(parts, features.size)
        loss = batch_loss(logits, targets, data.ignore)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.follow(step.drawn)
        look()


def recipe_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimiser for all parameters that are not frozen."""
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
    """Put the model in training mode, except backbones that are frozen in evaluation mode."""
    model.train()
    if frozen == "eval":
        model.backbones.eval()


def _orders(
    count: int, size: int, total: int, seed: int, start: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the batches of positions below `count` from step `start` to `total`.

    Every epoch has a new random order.
    """
    per_epoch = count // size
    for step in range(start, total):
        epoch, i = divmod(step, per_epoch)
        if i == 0 or step == start:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        yield order[i * size : (i + 1) * size]
