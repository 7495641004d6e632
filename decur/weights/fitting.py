"""Whether shards hold what weights were pretrained on: the same bands, scaled alike to 8 bits."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from decur.errors import DecurError
from decur.imagery.band_names import band_map
from decur.shards import PairedShards


def in_bands_of(
    weights: Path, metadata: Mapping[str, Any], shards: PairedShards, modalities: Iterable[str]
) -> PairedShards:
    """The shards with the bands of each modality in the weights' order.

    A band that only the weights have is black if it may be: B10 of Sentinel-2, as in BigEarthNet.

    Args:
        weights: their file, for errors.
        metadata: its record; of what an earlier version did not write nothing is compared.
        shards: what the backbones are to see.
        modalities: of which backbones.

    Raises:
        DecurError: other bands, or another scaling to 8 bits.
    """
    orders = {}
    for name in modalities:
        stored = shards.bands(name)
        wanted = (metadata.get("bands") or {}).get(name, stored)
        try:
            order = band_map(stored, wanted)
        except DecurError as error:
            raise DecurError(
                f"{shards.root}: {name} {error} by {weights}; preprocess the bands that the "
                "backbone was pretrained on, under the same names"
            ) from None
        _check_scaling(weights, metadata, shards, name, order)
        if order != list(range(len(stored))):
            orders[name] = dict(zip(wanted, order, strict=True))
    return shards.in_bands(orders) if orders else shards


def _check_scaling(
    weights: Path,
    metadata: Mapping[str, Any],
    shards: PairedShards,
    name: str,
    order: Sequence[int | None],
) -> None:
    trained = (metadata.get("scalings") or {}).get(name)
    if trained is None:
        return
    wanted, found = (metadata.get("limits") or {}).get(name), shards.limits(name)
    if wanted and found:
        pairs = [
            (limits, found[place])
            for limits, place in zip(wanted, order, strict=True)
            if place is not None
        ]
        same = all(np.allclose(*pair, rtol=1e-6, atol=0) for pair in pairs)
    else:
        same = not wanted and not found and trained == shards.scaling(name)
    if not same:
        raise DecurError(
            f"{shards.root}: {name} became 8 bits by: {shards.scaling(name)}; {weights} was "
            f"pretrained on: {trained}; preprocess it with the scale of the pretraining data"
        )
