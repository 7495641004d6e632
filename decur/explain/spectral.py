"""Measure the influence of each band with integrated gradients (paper §7, figure 5 right)."""

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
"""Samples per batch; each passes through the model once per step of the path."""


def attributions(model: nn.Module, x: Tensor, target: int, steps: int) -> Tensor:
    """Compute integrated gradients from zeros (Sundararajan et al., 2017), in the shape of `x`.

    Args:
        model: `(N, C, H, W)` -> `(N, targets)`.
        x: images.
        target: number of the output.
        steps: points on the path.
    """
    from captum.attr import IntegratedGradients

    gradients = IntegratedGradients(model)
    found: Tensor = gradients.attribute(x, target=target, n_steps=steps, internal_batch_size=128)
    return found.detach()


def explain(subject: Subject, recipe: Spectral) -> Explanation:
    """Write one line per modality, part and band: modality, part, band, attribution.

    The attribution is the mean absolute integrated gradient per pixel. The path starts at zeros:
    black, or the mean colour if a preset standardises the bands. Synthetic scenes have two more
    columns per factor that the modality shows: `change_<factor>`, how much the factor changes the
    band in grey levels, and `lift_<factor>`, how much stronger that change is where the band has
    high attributions (`scene_factors.lift`).

    The facts contain the completeness error: the gap between an image's attributions and the
    output's difference from that of zeros, relative to this difference, each summed over all images
    and parts.
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
    """Compute the `lines` of a batch: modality, part, and the numbers of each band of a sample.

    For the completeness error, the result also has `missed`, the gaps by modality and part, and
    `whole`, the differences of the output by modality.
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
    """Build a table with one line per band of a sample."""
    columns = {name: column.numpy() for name, column in numbers.items()}
    place = {"modality": modality, "part": part, "band": subject.shards.bands(modality)}
    return pd.DataFrame({**place, **columns})


def _bands(maps: Array, factors: Mapping[str, Array]) -> dict[str, Array]:
    """Compute a sample's numbers per band from attributions `(C, H, W)` and effects by factor."""
    numbers = {"attribution": maps.mean(axis=(1, 2))}
    for factor, effect in factors.items():
        numbers[f"change_{factor}"] = effect.mean(axis=(1, 2))
        pairs = zip(maps, effect[:, None], strict=True)
        numbers[f"lift_{factor}"] = np.array([lift(one, change) for one, change in pairs])
    return numbers
