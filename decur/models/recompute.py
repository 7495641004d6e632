"""Save memory in training: discard a module's activations and recompute them in backward.

The result equals that of a plain step. The same random numbers are drawn again, and batch norm
updates its running statistics only the first time.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from decur.models.backbone import Backbone
from decur.models.two_branch import TwoBranch

Recompute = Literal["none", "view", "block"]


def recompute_backbones(model: TwoBranch, grain: Recompute) -> None:
    """Change a model in place so that it keeps activations of one view, or one block, at a time.

    Parameters, buffers and their names stay the same.
    """
    if grain == "none":
        return
    for backbone in cast(Iterable[Backbone], model.backbones):
        for module in [backbone] if grain == "view" else backbone.blocks():
            module.forward = partial(_forward, module, module.forward)


def _forward(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not module.training:
        return forward(x)
    again = partial(_statistics_frozen, module)
    y: Tensor = checkpoint(
        forward,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), again()),
    )
    return y


@contextmanager
def _statistics_frozen(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
