"""Prefetch the batches of a training."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Generator, Tensor

from decur.training.prefetch import SideStream, ahead
from decur.transfer.data import Draws, LabelledData
from decur.transfer.features import EncodedBatch, FrozenFeatures


class Step(NamedTuple):
    """The samples of a step: `rows`, and their augmentation, if any.

    `drawn` is the state of the random generator after the step's crops were drawn.
    """

    rows: NDArray[np.int64]
    draws: Draws | None
    drawn: Tensor | None


Take = Callable[[], tuple[EncodedBatch, Tensor]]
"""Returns each modality's features, or its images as a single tensor, and the targets."""


def steps_ahead(
    data: LabelledData,
    chosen: Iterable[NDArray[np.int64]],
    features: FrozenFeatures | None,
    generator: Generator | None,
) -> Iterator[tuple[Step, Take]]:
    """Read the rows of each step, and augment them by the generator, a few steps ahead."""
    beside = SideStream(data.device)
    size = data.image_size() if generator is not None else (0, 0)

    def draw(rows: NDArray[np.int64]) -> Step:
        if generator is None:
            return Step(rows, None, None)
        draws = data.draw(len(rows), size, generator)
        return Step(rows, draws, generator.get_state())

    def load(step: Step) -> Take:
        if features is not None:
            labels = data.read(step.rows, ())
            return lambda: (features.read(data, step.rows), data.targets_of(labels))
        batch = data.read(step.rows)

        def show() -> list[list[Tensor]]:
            if step.draws is None:
                return [[x] for x in (*data.views(batch), data.targets_of(batch))]
            xs, targets = data.crops(batch, step.draws)
            return [[x] for x in (*xs, targets)]

        shown = beside.start(show)

        def take() -> tuple[EncodedBatch, Tensor]:
            *images, (targets,) = shown()
            return images, targets

        return take

    return ahead(load, map(draw, chosen))
