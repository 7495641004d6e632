"""Measure the overlap of two modalities' Grad-CAM maps (paper §7, figure 5 left)."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from decur.config.explainers import Saliency
from decur.explain.gradcam import cam_maps
from decur.explain.run import Explanation
from decur.explain.scene_factors import effects, lift
from decur.explain.subject import Subject

PACKAGES = ("captum",)
BATCH = 64


def overlap(maps1: Tensor, maps2: Tensor) -> Tensor:
    """Score the overlap of pairs of Grad-CAM maps `(..., H, W)`, from 0 to 1: `(...)`.

    The score is the mean product of both maps' logarithms, each scaled to [0, 1], as in the
    released code. It is 0 if the maps highlight different areas, and grows with the area that both
    highlight. A constant map highlights nothing, so its score is 0.
    """
    return (_normalised(maps1) * _normalised(maps2)).mean(dim=(-2, -1))


def _normalised(maps: Tensor) -> Tensor:
    logs = (maps.double() + 1e-20).log10()
    low, high = logs.amin((-2, -1), keepdim=True), logs.amax((-2, -1), keepdim=True)
    return (logs - low) / (high - low).where(high > low, 1)


def enlarged(maps: Tensor, size: int) -> Tensor:
    """Resize maps `(N, parts, h, w)` to the views' size, bilinearly, as in the released code."""
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)


def explain(subject: Subject, recipe: Saliency) -> Explanation:
    """Write one line per sample: its name, and the score of each part.

    For synthetic scenes, the columns `<modality> <part> on <factor>` follow: see
    `scene_factors.lift`.
    """
    size = recipe.pixels or subject.pretrain.crop
    modalities, rows = list(subject.pretrain.modalities), subject.samples(recipe.samples)

    def lines_of(batch: NDArray[np.int64], views: list[Tensor]) -> list[dict[str, Any]]:
        maps = [enlarged(cam_maps(subject, b, x), size).cpu() for b, x in enumerate(views)]
        scores, lines = overlap(*maps).numpy(), []
        for number, row in enumerate(batch):
            line = {"sample": subject.shards.index["id"].iloc[row]}
            line |= dict(zip(subject.parts, scores[number].tolist(), strict=True))
            known = effects(subject.shards, int(row))
            for modality, found in zip(modalities, maps, strict=True):
                for factor, effect in known.get(modality, {}).items():
                    for part, seen in zip(subject.parts, found[number].numpy(), strict=True):
                        line[f"{modality} {part} on {factor}"] = lift(seen, effect)
            lines.append(line)
        return lines

    batches = np.split(rows, range(BATCH, len(rows), BATCH))
    every = subject.each(batches, lines_of, recipe.pixels)
    return Explanation(pd.DataFrame([line for lines in every for line in lines]))
