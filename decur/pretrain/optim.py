"""Optimisers and the learning-rate schedule of pretraining (paper, appendix B)."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from decur.config import PretrainSettings
from decur.errors import DecurError


class LARS(torch.optim.Optimizer):
    """SGD with momentum that scales each weight's step by the norm of the weight.

    For a parameter p with gradient g: `g <- g + weight_decay p`, then `g <- g eta |p| / |g|`
    (unchanged if either norm is 0), `m <- momentum m + g`, `p <- p - lr m`. Parameters with fewer
    than two dimensions (biases, the scales and shifts of batch norm) use plain momentum without
    decay or scaling.

    Args:
        params: parameters or parameter groups, each group's on one device.
        lr: learning rate, applied after the momentum.
        momentum: weight of the running sum of steps.
        weight_decay: L2 penalty.
        eta: trust coefficient, as in the released code.
        compiled: fuse the passes over the weights by torch.compile; compiling takes half a minute.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 0.001,
        compiled: bool = False,
    ) -> None:
        self._add_adapted_to_momentum = (
            torch.compile(_add_adapted_to_momentum) if compiled else _add_adapted_to_momentum
        )
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; if a closure is given, call it first and return its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            vectors = [p for p in params if p.ndim < 2]
            weights = [p for p in params if p.ndim >= 2]
            self._descend(vectors, _add_to_momentum, group, group["momentum"])
            rates = (group["momentum"], group["weight_decay"], group["eta"])
            self._descend(weights, self._add_adapted_to_momentum, group, *rates)
        return loss

    def _descend(
        self, params: list[Tensor], add: Callable[..., None], group: dict[str, Any], *rates: float
    ) -> None:
        if params:
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            add(buffers, [p.grad for p in params], params, *rates)
            torch._foreach_add_(params, buffers, alpha=-group["lr"])


def _add_to_momentum(
    buffers: list[Tensor], grads: list[Tensor], params: list[Tensor], momentum: float
) -> None:
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, grads)


def _add_adapted_to_momentum(
    buffers: list[Tensor],
    grads: list[Tensor],
    weights: list[Tensor],
    momentum: float,
    weight_decay: float,
    eta: float,
) -> None:
    """Add the decayed gradients, each rescaled to eta times the norm of its weight."""
    steps = torch._foreach_add(grads, weights, alpha=weight_decay)
    weight_norms = torch.stack(torch._foreach_norm(weights))
    step_norms = torch.stack(torch._foreach_norm(steps))
    trust = eta * weight_norms / step_norms
    trust = torch.where((weight_norms > 0) & (step_norms > 0), trust, 1.0)
    torch._foreach_mul_(steps, list(trust.unbind()))
    _add_to_momentum(buffers, list(steps), weights, momentum)


def parameter_groups(model: nn.Module, lr: float, lr_1d: float) -> list[dict[str, Any]]:
    """Split the trainable parameters: weights at `lr`, one-dimensional parameters at `lr_1d`."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim >= 2], "lr": lr},
        {"params": [p for p in params if p.ndim < 2], "lr": lr_1d},
    ]


def build_optimizer(
    model: nn.Module,
    *,
    name: Literal["lars", "adamw"] = "lars",
    lr: float,
    lr_1d: float,
    weight_decay: float,
    compiled: bool = False,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """Build LARS (for ResNets in the paper) or AdamW (for MiT) over `parameter_groups`.

    AdamW decays both groups, as in the released code; LARS never decays the second. `compiled`
    affects only LARS. `capturable` makes either usable in a CUDA graph.

    Raises:
        DecurError: if the name is neither.
    """
    groups = parameter_groups(model, lr, lr_1d)
    if name == "lars":
        return LARS(groups, lr, weight_decay=weight_decay, compiled=compiled)
    if name == "adamw":
        return torch.optim.AdamW(
            groups, lr, weight_decay=weight_decay, fused=True, capturable=capturable
        )
    raise DecurError(f'optimizer must be "lars" or "adamw", got "{name}"')


def cosine_factor(epoch: int, epochs: int) -> float:
    """Compute an epoch's learning-rate factor, 0 <= epoch < epochs: half a cosine from 1 to 0.

    It changes once per epoch and has no warm-up or floor, as in the released code.
    """
    return 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times its initial one.

    The initial one is stored in the group as ``initial_lr``, so it is part of the optimiser's state
    dict.
    """
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def optimizer_of(model: nn.Module, settings: PretrainSettings) -> torch.optim.Optimizer:
    """Build the optimiser that the settings of a run define."""
    return build_optimizer(
        model,
        name=settings.optimizer,
        lr=settings.lr,
        lr_1d=settings.lr_1d,
        weight_decay=settings.weight_decay,
        compiled=settings.compile != "none",
        capturable=settings.cuda_graph,
    )
