"""How much each band counts, by integrated gradients (paper §7, figure 5 right)."""

from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import Spectral
from decur.explain.known import effects
from decur.explain.run import Found
from decur.explain.subject import Subject
from decur.explain.targets import ImagePartMeans

PACKAGES = ("captum",)
BATCH = 8
"""Samples at a time; each is seen at every step of the path."""


def attributions(model: nn.Module, x: Tensor, target: int, steps: int) -> Tensor:
    """Integrated gradients from a black image (Sundararajan et al., 2017), of the shape of `x`.

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


def explain(subject: Subject, recipe: Spectral) -> Found:
    """A line a modality, part and band: modality, part, band, attribution.

    The attribution is the mean absolute one of a pixel. Of synthetic scenes also by how much each
    factor changes the band, in grey levels: `change_common` and `change_unique1` or `_unique2`.

    The facts tell the error of completeness: by how much the attributions of an image miss the
    difference of the output between it and a black one, over that difference, each summed over
    all images and parts.
    """
    rows, modalities = subject.samples(recipe.samples), list(subject.pretrain.modalities)
    sums: dict[tuple[str, str], list[NDArray[np.floating]]] = defaultdict(list)
    missed = whole = 0.0
    for batch in np.split(rows, range(BATCH, len(rows), BATCH)):
        for branch, x in enumerate(subject.views(batch)):
            model = ImagePartMeans(subject, branch)
            with torch.no_grad():
                differences = model(x) - model(torch.zeros_like(x))
            whole += float(differences.abs().sum())
            for target, part in enumerate(subject.parts):
                found = attributions(model, x, target, recipe.steps)
                missed += float((found.sum(dim=(1, 2, 3)) - differences[:, target]).abs().sum())
                bands = found.abs().mean(dim=(2, 3)).cpu().numpy()
                sums[modalities[branch], part].append(bands)
    known = _changes(subject, rows)
    frames = []
    for (modality, part), parts in sums.items():
        lines = {"modality": modality, "part": part, "band": subject.shards.bands(modality)}
        lines["attribution"] = np.concatenate(parts).mean(axis=0)
        frames.append(pd.DataFrame(lines | known.get(modality, {})))
    return Found(pd.concat(frames), {"completeness_error": missed / whole if whole else 0.0})


def _changes(subject: Subject, rows: NDArray[np.int64]) -> dict[str, dict[str, NDArray]]:
    """By modality and factor the mean change of each band, of scenes whose factors are known."""
    found: dict[str, dict[str, list[NDArray[np.floating]]]] = {}
    for row in rows:
        for modality, factors in effects(subject.shards, int(row)).items():
            for factor, effect in factors.items():
                bands = found.setdefault(modality, {}).setdefault(f"change_{factor}", [])
                bands.append(effect.mean(axis=(1, 2)))
    return {m: {f: np.mean(e, axis=0) for f, e in factors.items()} for m, factors in found.items()}
