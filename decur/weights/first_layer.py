"""Convert first convolutions between the bands of our shards and those of the released code.

The released code reads colours blue first (as blue, green, red), and elevation as three equal
channels.
"""

import torch
from torch import Tensor

from decur.config.released import Scenario
from decur.weights.naming import Tensors, first_convolution


def in_our_bands(theirs: Tensors, modality: str, scenario: Scenario) -> tuple[Tensors, str | None]:
    """Adapt a released backbone (under our names) to our bands; also return a note of changes."""
    name = first_convolution(theirs)
    kernel = theirs[name]
    if modality in scenario.reversed:
        note = (
            f"{modality}: first convolution reversed (the released one reads the last band first)"
        )
        return {**theirs, name: kernel.flip(1)}, note
    if modality in scenario.repeated:
        # Double precision makes this the exact inverse of `in_their_bands`.
        summed = kernel.double().sum(dim=1, keepdim=True).to(kernel.dtype)
        note = f"{modality}: kernels of the first convolution summed (it took one band three times)"
        return {**theirs, name: summed}, note
    return theirs, None


def in_their_bands(ours: Tensors, modality: str, scenario: Scenario) -> Tensors:
    """Adapt our backbone to the bands of the released code: the inverse of `in_our_bands`.

    Its features stay the same. The kernel of a single band becomes three kernels of a third each;
    the last one absorbs the rounding error.
    """
    name = first_convolution(ours)
    kernel = ours[name]
    if modality in scenario.reversed:
        return {**ours, name: kernel.flip(1)}
    if modality in scenario.repeated:
        return {**ours, name: _thirds(kernel)}
    return ours


def _thirds(kernel: Tensor) -> Tensor:
    third = kernel / 3
    return torch.cat([third, third, kernel - 2 * third], dim=1)
