"""Match bands by name between files, stored samples and pretrained backbones."""

import re
from collections.abc import Sequence

from decur.errors import DecurError

BLACK = ("B10",)
"""Bands that may be missing and are then zero. Atmospherically corrected products have no B10, so a
backbone pretrained on SSL4EO-S12 (13 bands) reads the 12 bands of BigEarthNet with a zero B10."""

SHORT = {"r": "red", "g": "green", "b": "blue"}


def plain(name: str) -> str:
    """Normalise a band name for comparison: `B04`, `b4` and `B4` are equal."""
    word = re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"[\W_]", "", name).lower())
    return SHORT.get(word, word)


def positions(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Find the index of each wanted band, from 0; None if no band has its name.

    Raises:
        DecurError: two bands share the name of a wanted one.
    """
    found = [plain(name) for name in names]
    places: list[int | None] = []
    for band in wanted:
        count = found.count(plain(band))
        if count > 1:
            raise DecurError(f"has {count} bands named '{band}'; give each band its own name")
        places.append(found.index(plain(band)) if count else None)
    return places


def band_map(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Find the index of each wanted band, from 0; None for a band that is filled with zeros.

    Raises:
        DecurError: a wanted band is duplicated, or is missing and may not be filled.
    """
    places = positions(names, wanted)
    missing = [band for band, place in zip(wanted, places, strict=True) if place is None]
    if missing and (set(missing) - set(BLACK) or len(missing) == len(wanted)):
        raise DecurError(
            f"has the bands {', '.join(names)}, expected {', '.join(wanted)} "
            f"(missing: {', '.join(missing)})"
        )
    return places
