"""Training and evaluation of a transfer model: linear on a frozen backbone, or fine-tuned.

Frozen means frozen: in the linear protocol the backbones stay in evaluation mode, batch norm
included. Without augmentation their features are extracted once and only the head is trained.
The released code freezes parameters alone; `frozen_mode: official` does as it does.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from decur.config import Recipe
from decur.errors import DecurError
from decur.models.heads import FCN, LateFusion
from decur.transfer.data import LabelledData, batches
from decur.transfer.metrics import Scores, Tally
from decur.transfer.predictions import Predictions

Head = LateFusion | FCN


def batch_loss(logits: Tensor, targets: Tensor, ignore: int | None) -> Tensor:
    """Multi-label soft margin for `(N, classes)` logits, cross-entropy for maps (appendix B).

    A batch of ignored pixels alone gives zero, with a gradient of zero.
    """
    if logits.ndim == 2:
        return F.multilabel_soft_margin_loss(logits, targets)
    ignored = -100 if ignore is None else ignore
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
        return recipe.lr * (1 - step / total) ** 0.9
    return recipe.lr


def train(
    model: Head,
    data: LabelledData,
    rows: NDArray[np.int64],
    recipe: Recipe,
    *,
    frozen: bool,
    seed: int,
    look: Callable[[float], None] | None = None,
) -> None:
    """Train the head, and the backbones unless `frozen`, on the labelled rows, in place.

    `look` is called with the number of epochs done, each time `recipe.evaluate_every` more are and
    at the end. It may evaluate the model, which changes nothing in its training.

    Raises:
        DecurError: batch norm in training mode is given a single sample, which it cannot normalise.
    """
    fixed = frozen and data.settings.frozen_mode == "eval"
    if not fixed and len(rows) < 2:
        raise DecurError(
            f"{data.shards.root}: batch norm in training mode needs two labelled samples, the "
            "label fraction selects one; raise it"
        )
    torch.manual_seed(seed)
    model.backbones.requires_grad_(not frozen)
    _training_mode(model, fixed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = recipe.weight_decay
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(parameters, recipe.lr, momentum=0.9, weight_decay=decay)
        if recipe.optimizer == "sgd"
        else torch.optim.AdamW(parameters, recipe.lr, weight_decay=decay, fused=True)
    )
    size = min(data.settings.batch_size, len(rows))
    per_epoch = len(rows) // size
    total = recipe.steps or (recipe.epochs or 0) * per_epoch
    between = recipe.evaluate_every * per_epoch if recipe.evaluate_every else total
    forward = _cached_head(model, data, rows) if fixed and not data.settings.augment else None
    generator = Generator().manual_seed(seed)
    for step, chosen in enumerate(_orders(len(rows), size, total, seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, total)
        if forward is not None:
            logits, targets = forward(chosen)
        else:
            augment = generator if data.settings.augment else None
            xs, targets = data.inputs(rows[chosen], augment)
            logits = model(xs)
        loss = batch_loss(logits, targets, data.ignore)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if look is not None and ((step + 1) % between == 0 or step + 1 == total):
            look((step + 1) / per_epoch)
            _training_mode(model, fixed)


def _training_mode(model: Head, fixed: bool) -> None:
    """All of the model in training mode, but for the backbones if they are `fixed`."""
    model.train()
    if fixed:
        model.backbones.eval()


def _orders(count: int, size: int, total: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """`total` batches of positions below `count`, every epoch shuffled anew."""
    per_epoch = count // size
    for step in range(total):
        epoch, i = divmod(step, per_epoch)
        if i == 0:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        yield order[i * size : (i + 1) * size]


def _cached_head(
    model: Head, data: LabelledData, rows: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]:
    """Logits and targets of positions in `rows`, from frozen features computed once."""
    parts, targets, size = [], [], (0, 0)
    with torch.no_grad():
        for batch in batches(rows):
            xs, target = data.inputs(batch, None)
            parts.append(model.features(xs))
            targets.append(target)
            size = (xs[0].shape[-2], xs[0].shape[-1])
    features = [torch.cat(part) for part in zip(*parts, strict=True)]
    all_targets = torch.cat(targets)

    def forward(chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        at = torch.from_numpy(chosen).to(all_targets.device)
        return model.head([f[at] for f in features], size), all_targets[at]

    return forward


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: LabelledData,
    rows: NDArray[np.int64],
    keep: Predictions | None = None,
) -> Scores:
    """Metrics of the rows, on deterministic views: centre crops, or whole images with masks.

    What the model says of the rows goes to `keep` too.
    """
    model.eval()
    tally = Tally(data.ignore)
    for batch in batches(rows):
        xs, targets = data.inputs(batch, None)
        logits = model(xs)
        tally.add(logits, targets)
        if keep is not None:
            keep.add(batch, logits)
    return tally.scores()
