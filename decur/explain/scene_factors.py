"""Compare saliency with the known effects of a scene's factors, per place and band."""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from decur.config import DatasetSettings
from decur.scenes.draw import scene_numbers
from decur.scenes.effects import SUPPORTED, scene_effects
from decur.shards import PairedShards


def effects(shards: PairedShards, row: int) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Compute how much each factor changes a sample, by modality and factor.

    Each effect is `(C, S, S)` in grey levels; see `decur.scenes.effects`. The result is empty
    unless the shards contain scenes.
    """
    dataset, origin = shards.card.dataset, shards.card.provenance
    if dataset not in SUPPORTED or origin.settings.get("source") != "scenes":
        return {}
    settings = DatasetSettings.model_validate(origin.settings)
    split, number = _numbers(dataset, settings)[shards.index["id"].iloc[row]]
    names = [stored.name for stored in shards.card.modalities]
    return dict(zip(names, scene_effects(dataset, settings, split, number), strict=True))


_numbers = functools.cache(scene_numbers)


def lift(saliency: NDArray[np.floating], effect: NDArray[np.floating]) -> float:
    """Compute how much stronger a factor acts where a map is salient than in the whole image.

    For an effect that is constant inside an area and 0 outside, the lift is the fraction of
    saliency inside the area divided by the area's fraction of the image. A lift of 1 means that
    the map is unrelated to the factor.

    Args:
        saliency: a non-negative map `(H, W)`.
        effect: the change that the factor causes, `(C, S, S)`.

    Returns:
        The saliency-weighted mean effect divided by the plain mean effect; NaN if the map or the
        effect is empty.
    """
    mean = torch.from_numpy(effect).mean(dim=0)
    resized = F.interpolate(
        mean[None, None], size=saliency.shape, mode="bilinear", align_corners=False
    )
    acting = resized[0, 0].numpy().astype(np.float64)
    if not saliency.sum() > 0 or not acting.sum() > 0:
        return math.nan
    return float(np.average(acting, weights=saliency) / acting.mean())
