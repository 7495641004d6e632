"""Check that shards match the pretraining data of weights: same bands, same scaling to 8 bits."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from decur import datasets
from decur.artifacts.records import Weights
from decur.errors import DecurError
from decur.imagery.band_names import band_map
from decur.shards import PairedShards
from decur.weights.net_input import scaling_of


def in_bands_of(
    weights: Path, record: Weights, shards: PairedShards, modalities: Iterable[str]
) -> PairedShards:
    """Return the shards with the bands of each modality in the order of the weights.

    A band that only the weights have is black if that is allowed: B10 of Sentinel-2, as in
    BigEarthNet.

    Args:
        weights: their file, for errors.
        record: that of the weights; entries that an earlier version did not write are not compared.
        shards: the input data of the backbones.
        modalities: of which backbones.

    Raises:
        DecurError: other modalities or bands, or another scaling to 8 bits.
    """
    orders = {}
    for name in modalities:
        if record.bands and name not in record.bands:
            raise DecurError(
                f"{weights}: has backbones of {', '.join(record.bands)}, but none of {name}; "
                "use weights of the scenario's modalities"
            )
        stored = shards.bands(name)
        wanted = record.bands.get(name, stored)
        try:
            order = band_map(stored, wanted)
        except DecurError as error:
            raise DecurError(
                f"{shards.root}: {name} {error} by {weights}; preprocess the bands that the "
                "backbone was pretrained on, under the same names"
            ) from None
        _check_scaling(weights, record, shards, name, order)
        if order != list(range(len(stored))):
            orders[name] = dict(zip(wanted, order, strict=True))
    return shards.in_bands(orders) if orders else shards


def _check_scaling(
    weights: Path,
    record: Weights,
    shards: PairedShards,
    name: str,
    order: Sequence[int | None],
) -> None:
    if name not in record.scalings:  # written by an earlier version
        return
    trained, found = scaling_of(record, name), datasets.scaling_in(shards.card, name)
    places = [number for number, place in enumerate(order) if place is not None]
    if not trained.of_bands(places).is_same(found.of_bands(order)):
        raise DecurError(
            f"{shards.root}: {name} was scaled to 8 bits by: {found.words()}; {weights} was "
            f"pretrained on: {trained.words()}; preprocess with the scale of the pretraining data"
        )
