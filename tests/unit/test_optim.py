import math

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from decur.errors import DecurError
from decur.pretrain.optim import LARS, build_optimizer, cosine_factor, parameter_groups, set_lr


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)
    ).double()


def fill_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def naive_lars_step(
    p: Tensor, m: Tensor, lr: float, momentum: float, weight_decay: float, eta: float
) -> tuple[Tensor, Tensor]:
    """Return the parameter and its momentum after a step, one parameter at a time."""
    assert p.grad is not None
    g = p.grad.clone()
    if p.ndim >= 2:
        g = g + weight_decay * p.detach()
        p_norm, g_norm = float(p.detach().norm()), float(g.norm())
        if p_norm > 0 and g_norm > 0:
            g = g * (eta * p_norm / g_norm)
    m = momentum * m + g
    return p.detach() - lr * m, m


def test_lars_reproduces_the_golden_steps():
    weight = nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64))
    shift = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))
    weight.grad = torch.tensor([[0.1, 0.2], [-0.3, 0.4]], dtype=torch.float64)
    shift.grad = torch.tensor([0.2, -0.1], dtype=torch.float64)
    groups = [{"params": [weight], "lr": 0.2}, {"params": [shift], "lr": 0.0048}]
    optimizer = LARS(groups, 0.2)
    optimizer.step()
    set_lr(optimizer, 0.5)
    optimizer.step()
    golden = [[0.4998358775, -1.0003282416], [2.0004923617, 0.2493435130]]
    torch.testing.assert_close(weight.data, weight.new_tensor(golden), rtol=0, atol=1e-10)
    golden = [0.998128, -0.499064]
    torch.testing.assert_close(shift.data, shift.new_tensor(golden), rtol=0, atol=1e-12)


def test_lars_equals_one_parameter_at_a_time():
    model = small_net()
    settings = {"momentum": 0.8, "weight_decay": 0.01, "eta": 0.02}
    optimizer = LARS(model.parameters(), 0.3, **settings)
    expected = [p.detach().clone() for p in model.parameters()]
    momenta = [torch.zeros_like(p) for p in expected]
    for seed in range(4):
        fill_gradients(model, seed)
        steps = [
            naive_lars_step(p, m, lr=0.3, **settings)
            for p, m in zip(model.parameters(), momenta, strict=True)
        ]
        expected, momenta = (list(column) for column in zip(*steps, strict=True))
        optimizer.step()
        for p, reference in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(p.data, reference, rtol=1e-12, atol=1e-14)


def test_lars_equals_that_of_timm_without_weight_decay():
    """With it they differ: timm divides by the sum of two norms, ours by the norm of the sum.

    Of weights alone, since timm scales biases too.
    """
    ours, theirs = small_net(), small_net()
    weights = [[p for p in net.parameters() if p.ndim > 1] for net in (ours, theirs)]
    steps = [
        LARS(weights[0], 0.2, momentum=0.9, weight_decay=0.0, eta=0.001),
        timm.optim.Lars(
            weights[1], 0.2, momentum=0.9, trust_coeff=0.001, eps=0.0, always_adapt=True
        ),
    ]
    for step in range(5):
        for net, optimizer in zip((ours, theirs), steps, strict=True):
            fill_gradients(net, step)
            optimizer.step()
    for own, other in zip(*weights, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


def test_lars_leaves_gradients_as_they_are():
    model = small_net()
    fill_gradients(model, 0)
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    LARS(model.parameters(), 0.3, weight_decay=0.1).step()
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_lars_takes_a_plain_step_where_a_norm_is_zero():
    zero_weight = nn.Parameter(torch.zeros(2, 2))
    zero_weight.grad = torch.ones(2, 2)
    still = nn.Parameter(torch.ones(2, 2))
    still.grad = torch.zeros(2, 2)
    LARS([zero_weight, still], 0.1, weight_decay=0).step()
    torch.testing.assert_close(zero_weight.data, torch.full((2, 2), -0.1))
    assert torch.equal(still.data, torch.ones(2, 2))


def test_lars_skips_parameters_without_gradient():
    used, unused = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    used.grad = torch.ones(2, 2)
    LARS([used, unused], 0.1).step()
    assert torch.equal(unused.data, torch.ones(2, 2))
    assert not torch.equal(used.data, torch.ones(2, 2))


def test_lars_resumes_from_its_state_as_if_never_stopped():
    runs = []
    for restart in (False, True):
        model = small_net()
        optimizer = build_optimizer(model, lr=0.2, lr_1d=0.0048, weight_decay=1e-6)
        for epoch in range(4):
            if restart and epoch == 2:
                state = optimizer.state_dict()
                optimizer = build_optimizer(model, lr=9, lr_1d=9, weight_decay=9)
                optimizer.load_state_dict(state)
            set_lr(optimizer, cosine_factor(epoch, 4))
            fill_gradients(model, epoch)
            optimizer.step()
        runs.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_groups_split_weights_from_one_dimensional_parameters():
    model = small_net()
    model[3].bias.requires_grad_(False)
    weights, vectors = parameter_groups(model, 0.2, 0.0048)
    assert [p.ndim for p in weights["params"]] == [4, 2]
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1]
    assert (weights["lr"], vectors["lr"]) == (0.2, 0.0048)


def test_optimizers_are_built_by_name():
    options = {"lr": 1e-4, "lr_1d": 1e-5, "weight_decay": 0.1}
    assert isinstance(build_optimizer(small_net(), **options), LARS)
    adamw = build_optimizer(small_net(), name="adamw", **options)
    assert isinstance(adamw, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"]) for g in adamw.param_groups] == [(1e-4, 0.1), (1e-5, 0.1)]
    with pytest.raises(DecurError, match='"lars" or "adamw"'):
        build_optimizer(small_net(), name="sgd", **options)


def test_cosine_reproduces_the_golden_factors():
    factors = [cosine_factor(epoch, 100) for epoch in (0, 50, 90, 99)]
    assert factors == pytest.approx([1, 0.5, 0.0244717419, 0.0002467198], abs=1e-10)
    assert all(cosine_factor(e, 7) > cosine_factor(e + 1, 7) for e in range(6))


def test_set_lr_scales_each_group_from_its_own_start():
    optimizer = build_optimizer(small_net(), lr=0.2, lr_1d=0.0048, weight_decay=0)
    for factor in (0.5, 0.1, 1.0):
        set_lr(optimizer, factor)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert all(
            math.isclose(rate, lr * factor) for rate, lr in zip(rates, (0.2, 0.0048), strict=True)
        )
