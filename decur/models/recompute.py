"""Less memory for more arithmetic: forget a module's activations, compute them again in backward.

Equal to the plain step: random numbers are drawn again the same, and batch norm updates its running
statistics the first time only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

from decur.models.backbones import TinyNet, VisionTransformer
from decur.models.mit import Block
from decur.models.rda import DeformableAttention
from decur.models.two_branch import TwoBranch

Recompute = Literal["none", "view", "block"]
BLOCKS = (BasicBlock, Bottleneck, Block, DeformableAttention)


def recompute_backbones(model: TwoBranch, grain: Recompute) -> None:
    """Change a model in place, to keep the activations of one view, or of one block, at a time.

    Parameters, buffers and their names stay.
    """
    if grain == "none":
        return
    for backbone in model.backbones:
        for module in [backbone] if grain == "view" else _blocks(backbone):
            module.forward = partial(_forward, module, module.forward)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    if isinstance(backbone, TinyNet):
        return list(backbone.children())
    if isinstance(backbone, VisionTransformer):
        return list(backbone.vit.blocks)
    return [m for m in backbone.modules() if isinstance(m, BLOCKS)]


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
