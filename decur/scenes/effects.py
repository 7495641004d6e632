"""Measure where a known factor is visible: what another level of it changes in a stored sample.

The same scene is rendered twice, with the same random numbers, and scaled as its dataset is.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets.rgbd import frame_arrays
from decur.datasets.ssl4eo_s12 import SAR_MEAN, SAR_STD
from decur.imagery.bands import (
    elevation_to_uint8,
    reflectance_to_uint8,
    resize,
    sar_db_to_uint8,
)
from decur.imagery.depth import nyu_intrinsics
from decur.scenes.draw import SCENE_KINDS, draw_factors, make_scene
from decur.scenes.layouts import Scene, optical_bands
from decur.scenes.render import LEVELS, RELIEFS, Factors

SUPPORTED = ("ssl4eo-s12", "geonrw", "sun-rgbd")
"""Datasets whose scenes `stored` can scale: those for pretraining."""

SHOWS = {0: ("common", "unique1"), 1: ("common", "unique2")}
"""The factors that are visible in the first and in the second modality."""

_DIRECTED = [RELIEFS.index(name) for name in ("ledges", "ribs", "slants", "studs")]


def stored(dataset: str, scene: Scene, settings: DatasetSettings) -> list[NDArray[np.uint8]]:
    """Scale both modalities of a scene, first season, as the dataset's module would: `(C, S, S)`.

    SUN-RGBD's colours are read from JPEG files, which lose a little; these arrays do not.
    """
    arrays: dict[str, NDArray[Any]] = scene.arrays
    if SCENE_KINDS[dataset] == "sar-optical":
        sar = sar_db_to_uint8(arrays["sar"][0], SAR_MEAN, SAR_STD)
        bands = [resize(band, settings.side) for band in optical_bands(scene, 0).values()]
        return [resize(sar, settings.side), reflectance_to_uint8(np.stack(bands))]
    if SCENE_KINDS[dataset] == "rgb-dem":
        images = arrays["rgb"].transpose(2, 0, 1), elevation_to_uint8(arrays["dem"])[None]
        return [resize(image, settings.side) for image in images]
    depth = arrays["depth"]
    camera, missing = nyu_intrinsics(depth.shape[1]), arrays["missing"]
    frame = frame_arrays(
        arrays["rgb"], depth, camera, settings.pixels, Path(dataset), missing=missing
    )
    return [frame["rgb"][0], frame["hha"][0]]


def scene_effects(
    dataset: str, settings: DatasetSettings, split: str, index: int
) -> list[dict[str, NDArray[np.float32]]]:
    """Measure how much each visible factor changes a modality, for the first and the second one.

    Returns:
        By factor the absolute change in grey levels, `(C, S, S)` from 0 to 255. A factor is left
        out if every other level of it would also change something else.
    """
    assert settings.scenes is not None
    factors = draw_factors(dataset, settings.scenes.seed, index)
    here = stored(dataset, make_scene(dataset, settings, index, split), settings)
    found: list[dict[str, NDArray[np.float32]]] = [{}, {}]
    for factor in Factors._fields:
        other = another(SCENE_KINDS[dataset], factors, factor)
        if other is None:
            continue
        there = stored(dataset, make_scene(dataset, settings, index, split, other), settings)
        for modality, shown in SHOWS.items():
            if factor in shown:
                change = here[modality].astype(np.float32) - there[modality]
                found[modality][factor] = np.abs(change)
    return found


def another(scenario: str, factors: Factors, factor: str) -> Factors | None:
    """Return the factors with the next level of one; None if that would change other things too.

    A relief without direction draws another number of random values than one with a direction.
    """
    place = Factors._fields.index(factor)
    level = factors[place]
    levels = list(range(LEVELS[scenario][place]))
    if factor == "unique2" and scenario != "sar-optical":
        levels = _DIRECTED
    if level not in levels:
        return None
    following = levels[(levels.index(level) + 1) % len(levels)]
    return factors._replace(**{factor: following})
