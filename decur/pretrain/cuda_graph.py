"""Run a training step as one CUDA graph: record it once, then replay it with a single call.

A step of two ResNet-50s launches some four thousand kernels, one by one from Python. If launching
takes longer than computing, the GPU waits for the host.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")
Views = list[list[Tensor]]

WARM_UP = 3


class GraphedStep(Generic[R]):
    """Take steps on views of one shape: the first ones directly, all later ones by a replay.

    The next step overwrites what `step` returned. A recording contains the host's numbers at the
    time, so a change of the optimiser's learning rates causes a new recording. Within `step` the
    host must not read what the device computes.
    """

    def __init__(self, step: Callable[[Views], R], optimizer: torch.optim.Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._warm_up = WARM_UP
        self._recorded: tuple[torch.cuda.CUDAGraph, Views, R, tuple[float, ...]] | None = None

    def __call__(self, views: Views) -> R:
        """Take the next step."""
        if self._warm_up:
            self._warm_up -= 1
            return self._beside(views)
        if self._recorded is None or self._recorded[-1] != self._rates():
            self._recorded = None  # frees its memory for the next recording
            self._recorded = self._record([[x.clone() for x in branch] for branch in views])
        graph, inputs, result, _ = self._recorded
        for given, kept in zip(views, inputs, strict=True):
            for x, y in zip(given, kept, strict=True):
                y.copy_(x)
        graph.replay()
        return result

    def _beside(self, views: Views) -> R:
        """Take a step on a separate stream, because a step must have run there before recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self._step(views)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _rates(self) -> tuple[float, ...]:
        return tuple(group["lr"] for group in self._optimizer.param_groups)

    def _record(self, inputs: Views) -> tuple[torch.cuda.CUDAGraph, Views, R, tuple[float, ...]]:
        graph = torch.cuda.CUDAGraph()
        # Other threads continue meanwhile: they read, copy and augment the next batch.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = self._step(inputs)
        return graph, inputs, result, self._rates()
