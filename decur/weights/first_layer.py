"""First convolutions between bands as our shards hold them and as the released code reads them.

The released code reads colours blue first (from blue, green, red), and elevation in three equal
channels.
"""

import torch
from torch import Tensor

from decur.config.released import Scenario
from decur.weights.naming import Tensors, first_convolution


def in_our_bands(theirs: Tensors, modality: str, scenario: Scenario) -> tuple[Tensors, str | None]:
    """A released backbone (under our names) for our bands, and what changed, if anything."""
    name = first_convolution(theirs)
    kernel = theirs[name]
    if modality in scenario.reversed:
        note = f"{modality}: first convolution reversed, the released one takes the last band first"
        return {**theirs, name: kernel.flip(1)}, note
    if modality in scenario.repeated:
        # In double precision, so that `in_their_bands` is undone to the last bit.
        summed = kernel.double().sum(dim=1, keepdim=True).to(kernel.dtype)
        note = f"{modality}: kernels of the first convolution summed, it took one band three times"
        return {**theirs, name: summed}, note
    return theirs, None


def in_their_bands(ours: Tensors, modality: str, scenario: Scenario) -> Tensors:
    """The inverse: a backbone of ours that gives the same features of what the released code reads.

    A kernel of one band becomes three of a third each, the last of which takes up the rounding.
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
