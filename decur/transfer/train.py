"""Training of a transfer model: linear on a frozen backbone, or fine-tuned.

Frozen means frozen: in the linear protocol the backbones stay in evaluation mode, batch norm
included, and without augmentation what they give of an image is computed once (`FrozenFeatures`).
The released code freezes parameters alone; `frozen_mode: official` does as it does.
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
    journal: Journal | None = None,
) -> None:
    """Train the head, and the backbones unless `frozen`, on the labelled rows, in place.

    `features`, if given, saves encoding images again and again, without augmentation.
    `evaluate` is called with the number of epochs done, each time `recipe.evaluate_every` more are
    and at the end. It may put the model into evaluation mode, which leaves training as it is.
    `journal` keeps the training, which goes on where an earlier job left it, equal bit for bit on a
    CPU; an evaluation that was due there is called again.

    Raises:
        DecurError: batch norm in training mode is given a single sample, which it cannot normalise.
        StoppedError: the job was asked to stop.
    """
    if frozen != "eval" and len(rows) < 2:
        raise DecurError(
            f"{data.shards.root}: batch norm in training mode needs two labelled samples, the "
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


def _orders(
    count: int, size: int, total: int, seed: int, start: int
) -> Iterator[NDArray[np.int64]]:
    """The batches of positions below `count` from step `start` to `total`.

    Every epoch is shuffled anew.
    """
    per_epoch = count // size
    for step in range(start, total):
        epoch, i = divmod(step, per_epoch)
        if i == 0 or step == start:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        yield order[i * size : (i + 1) * size]
