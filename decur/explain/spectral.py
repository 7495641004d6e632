"""How much each band counts, by integrated gradients (paper §7, figure 5 right)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config.explainers import Spectral
from decur.explain.run import Explanation
from decur.explain.scene_factors import effects, lift
from decur.explain.subject import Subject
from decur.explain.targets import ImagePartMeans

Array = NDArray[np.floating]

PACKAGES = ("captum",)
BATCH = 8
"""Samples at a time; each is seen at every step of the path."""


def attributions(model: nn.Module, x: Tensor, target: int, steps: int) -> Tensor:
    """Integrated gradients from zeros (Sundararajan et al., 2017), of the shape of `x`.

    Args:
        model: `(N, C, H, W)` -> `(N, targets)`.
        x: images.
        target: which output.
        steps: points of the path.
    """
    from captum.attr import IntegratedGradients

    gradients = IntegratedGradients(model)
    found: Tensor = gradients.attribute(x, target=target, n_steps=steps, internal_batch_size=128)
    return found.detach()


def explain(subject: Subject, recipe: Spectral) -> Explanation:
    """A line a modality, part and band: modality, part, band, attribution.

    The attribution is the mean absolute one of a pixel. It starts from zeros: black, or where a
    preset standardises the bands, their mean colour. Of synthetic scenes also, for each factor
    that the modality shows, `change_<factor>`, by how much it changes the band, in grey levels, and
    `lift_<factor>`, how much more it does where the band counts (`scene_factors.lift`).

    The facts tell the error of completeness: by how much the attributions of an image miss the
    difference of the output between it and zeros, over that difference, each summed over
    all images and parts.
    """
    rows = subject.samples(recipe.samples)
    found = subject.each(
        np.split(rows, range(BATCH, len(rows), BATCH)),
        lambda batch, views: _attributed(subject, recipe.steps, batch, views),
    )
    lines = [_frame(subject, *line) for batch in found for line in batch["lines"]]
    samples = pd.concat(lines).groupby(["modality", "part", "band"], sort=False)
    missed, whole = (sum(x for batch in found for x in batch[key]) for key in ("missed", "whole"))
    facts = {"completeness_error": missed / whole if whole else 0.0}
    return Explanation(samples.mean().reset_index(), facts)


def _attributed(
    subject: Subject, steps: int, rows: NDArray[np.int64], views: list[Tensor]
) -> dict[str, list[Any]]:
    """The `lines` of a batch (modality, part, and the numbers of each band of a sample).

    For the error of completeness also `missed`, what the attributions miss, by modality and part,
    and `whole`, the differences of the output, by modality.
    """
    batch: dict[str, list[Any]] = {"lines": [], "missed": [], "whole": []}
    known = [effects(subject.shards, int(row)) for row in rows]
    for branch, (modality, x) in enumerate(zip(subject.pretrain.modalities, views, strict=True)):
        model = ImagePartMeans(subject, branch)
        with torch.no_grad():
            differences = model(x) - model(torch.zeros_like(x))
        batch["whole"].append(float(differences.abs().sum()))
        for target, part in enumerate(subject.parts):
            found = attributions(model, x, target, steps)
            missed = (found.sum(dim=(1, 2, 3)) - differences[:, target]).abs().sum()
            batch["missed"].append(float(missed))
            for maps, factors in zip(found.abs().cpu().numpy(), known, strict=True):
                bands = _bands(maps, factors.get(modality, {}))
                numbers = {name: torch.from_numpy(column) for name, column in bands.items()}
                batch["lines"].append([modality, part, numbers])
    return batch


def _frame(
    subject: Subject, modality: str, part: str, numbers: Mapping[str, Tensor]
) -> pd.DataFrame:
    """A line per band of a sample."""
    columns = {name: column.numpy() for name, column in numbers.items()}
    place = {"modality": modality, "part": part, "band": subject.shards.bands(modality)}
    return pd.DataFrame({**place, **columns})


def _bands(maps: Array, factors: Mapping[str, Array]) -> dict[str, Array]:
    """The numbers of each band of a sample: `maps` (C, H, W) of attributions, effects by factor."""
    numbers = {"attribution": maps.mean(axis=(1, 2))}
    for factor, effect in factors.items():
        numbers[f"change_{factor}"] = effect.mean(axis=(1, 2))
        pairs = zip(maps, effect[:, None], strict=True)
        numbers[f"lift_{factor}"] = np.array([lift(one, change) for one, change in pairs])
    return numbers
