"""Saliency against what is known of scenes: where each factor acts, and in which bands."""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from decur.config import DatasetSettings
from decur.scenes.draw import scene_numbers
from decur.scenes.effects import DATASETS, scene_effects
from decur.shards import PairedShards


def effects(shards: PairedShards, row: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    """By modality and factor how much the factor changes a sample, `(C, S, S)` in grey levels.

    Nothing where the shards are not of scenes; see `decur.scenes.effects`.
    """
    dataset, origin = shards.card.dataset, shards.card.provenance
    if dataset not in DATASETS or origin.settings.get("source") != "scenes":
        return {}
    settings = DatasetSettings.model_validate(origin.settings)
    split, number = _numbers(dataset, settings)[shards.index["id"].iloc[row]]
    names = [stored.name for stored in shards.card.modalities]
    return dict(zip(names, scene_effects(dataset, settings, split, number), strict=True))


_numbers = functools.cache(scene_numbers)


def lift(saliency: NDArray[np.floating], effect: NDArray[np.floating]) -> float:
    """How much more a factor acts where a map is salient than in the whole image.

    Were its effect the same everywhere inside an area, it would be the share of saliency inside
    the area over the area's share of the image: 1 says that the map knows nothing of the factor.

    Args:
        saliency: a map `(H, W)`, not negative.
        effect: what the factor changes, `(C, S, S)`.

    Returns:
        The mean effect weighted by the saliency over the plain one; NaN of an empty map or effect.
    """
    mean = torch.from_numpy(effect).mean(dim=0)
    resized = F.interpolate(
        mean[None, None], size=saliency.shape, mode="bilinear", align_corners=False
    )
    acting = resized[0, 0].numpy().astype(np.float64)
    if not saliency.sum() > 0 or not acting.sum() > 0:
        return math.nan
    return float(np.average(acting, weights=saliency) / acting.mean())
