"""The variant `official` takes the steps of the released four-process training, in float64.

The reference is written out plainly: each rank's loss from the whole batch's cross-correlation, of
which its own rows alone carry a gradient; the mean of the ranks' gradients; LARS parameter by
parameter.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from decur.config import PretrainSettings, apply_variant
from decur.pretrain.loop import prepare, training_step
from decur.pretrain.optim import build_optimizer, set_lr
from decur.shards import PairedShards
from decur.training.methods import build_model, count_views
from tests.support.pretraining import settings

RANKS, STEPS, LAMBDA, ETA, MOMENTUM = 4, 15, 0.0051, 0.001, 0.9
WEIGHT_DECAY = 0.01  # large enough to show in fifteen steps
Views = list[list[Tensor]]


def normalised(z: Tensor) -> Tensor:
    """By the whole batch's mean and biased variance, as a synchronised batch norm does."""
    return (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()


def correlations(za: Tensor, zb: Tensor) -> list[Tensor]:
    """Each rank's (K, K) cross-correlation: the value of the sum, the gradient of its own part."""
    pairs = zip(normalised(za).chunk(RANKS), normalised(zb).chunk(RANKS), strict=True)
    parts = [a.T @ b / len(za) for a, b in pairs]
    total = sum(part.detach() for part in parts)
    return [part + (total - part.detach()) for part in parts]


def distance(c: Tensor, target: float) -> Tensor:
    on = torch.diagonal(c)
    return ((on - target) ** 2).sum() + LAMBDA * ((c**2).sum() - (on**2).sum())


def twins(za: Tensor, zb: Tensor) -> list[Tensor]:
    return [distance(c, 1) for c in correlations(za, zb)]


def released_decur(z: Views) -> list[Tensor]:
    (z1a, z1b), (z2a, z2b) = z
    common = settings().dim_common
    across = correlations(z1a, z2a)
    between = [
        (distance(c[:common, :common], 1) + distance(c[common:, common:], 0)) / 2 for c in across
    ]
    within = [twins(z1a, z1b), twins(z2a, z2b)]
    return [sum(parts) / 3 for parts in zip(*within, between, strict=True)]


def released_simclr(z: Views) -> list[Tensor]:
    """Each rank's loss of all rows, gathered with their gradients; temperature 1."""
    both = torch.cat([torch.nn.functional.normalize(branch[0], dim=1) for branch in z])
    n = len(both) // 2
    own = torch.eye(2 * n, dtype=torch.bool)
    similar = (both @ both.T).masked_fill(own, -1e4)
    positive = (torch.arange(2 * n) + n) % (2 * n)
    return [torch.nn.functional.cross_entropy(similar, positive)] * RANKS


RELEASED: dict[str, Callable[[Views], list[Tensor]]] = {
    "decur": released_decur,
    "barlow-twins": lambda z: twins(z[0][0], z[1][0]),
    "barlow-twins-single": lambda z: [
        a + b for a, b in zip(twins(*z[0]), twins(*z[1]), strict=True)
    ],
    "simclr": released_simclr,
}


def released_step(
    model: torch.nn.Module, momenta: list[Tensor], losses: list[Tensor], rates: tuple[float, float]
) -> None:
    """The mean of the ranks' gradients, then LARS, one parameter at a time."""
    params = list(model.parameters())
    grads = torch.autograd.grad(sum(losses) / RANKS, params)
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        step, lr = g, rates[1]
        if p.ndim != 1:
            step, lr = g + WEIGHT_DECAY * p.detach(), rates[0]
            step = step * (ETA * p.detach().norm() / step.norm())
        momenta[i] = MOMENTUM * momenta[i] + step
        p.data -= lr * momenta[i]


def random_views(chosen: PretrainSettings, step: int) -> Views:
    generator = torch.Generator().manual_seed(step)

    def view(chans: int) -> Tensor:
        size = (chosen.batch_size, chans, chosen.crop, chosen.crop)
        return torch.rand(size, generator=generator, dtype=torch.float64)

    return [[view(chans) for _ in range(count_views(chosen))] for chans in (2, 3)]


@pytest.mark.parametrize("method", RELEASED)
def test_fifteen_steps_equal_those_of_the_released_training_on_four_ranks(method, shards_root):
    base = settings(method=method, weight_decay=WEIGHT_DECAY, head_dim=8, optimizer="lars")
    chosen = apply_variant(base, "official")
    model = build_model(chosen, PairedShards(shards_root)).double().train()
    theirs = copy.deepcopy(model)
    network = prepare(model, chosen)
    options = {"lr": chosen.lr, "lr_1d": chosen.lr_1d, "weight_decay": chosen.weight_decay}
    optimizer = build_optimizer(model, name=chosen.optimizer, **options)
    momenta = [torch.zeros_like(p) for p in theirs.parameters()]
    start = [p.detach().clone() for p in theirs.parameters()]
    for step in range(STEPS):
        factor = 1 - step / STEPS
        views = random_views(chosen, step)
        losses = RELEASED[method](theirs(views))
        released_step(theirs, momenta, losses, (base.lr * factor, base.lr_1d * factor))
        set_lr(optimizer, factor)
        training_step(network, model, optimizer, views, chosen)
    for p, reference, before in zip(model.parameters(), theirs.parameters(), start, strict=True):
        torch.testing.assert_close(p.data, reference.data, rtol=1e-10, atol=1e-10)
        assert p.ndim == 1 or not torch.equal(p.data, before)


@pytest.mark.parametrize(
    ("changes", "factors"),
    [
        ({"method": "decur"}, (4, 0.25)),
        ({"method": "barlow-twins"}, (4, 0.25)),
        ({"method": "barlow-twins-single"}, (4, 0.25)),
        *(({"method": name}, (1, 1)) for name in ("vicreg", "simclr", "clip")),
        ({"method": "decur", "optimizer": "adamw"}, (1, 1)),
    ],
)
def test_only_lars_on_a_lost_gradient_has_other_rates(changes, factors):
    base = settings(**changes)
    official = apply_variant(base, "official")
    found = official.weight_decay / base.weight_decay, official.lr_1d / base.lr_1d
    assert found == pytest.approx(factors)
    assert official.lr == base.lr
