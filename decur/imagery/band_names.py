"""Which band is which, by name: of a file, of stored samples, of what weights were trained on."""

import re
from collections.abc import Sequence

from decur.errors import DecurError

BLACK = ("B10",)
"""Bands that may be missing and are then black: a product corrected for the atmosphere has no B10,
and BigEarthNet is seen so by backbones of SSL4EO-S12 (13 bands, of which BigEarthNet has 12)."""

SHORT = {"r": "red", "g": "green", "b": "blue"}


def plain(name: str) -> str:
    """A name in the spelling by which names are compared: `B04`, `b4` and `B4` are one."""
    word = re.sub(r"(?<![0-9])0+(?=[0-9])", "", re.sub(r"[\W_]", "", name).lower())
    return SHORT.get(word, word)


def positions(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Where each wanted band is among named ones, from 0; None where no band has its name.

    Raises:
        DecurError: two bands have the name of a wanted one.
    """
    found = [plain(name) for name in names]
    places: list[int | None] = []
    for band in wanted:
        count = found.count(plain(band))
        if count > 1:
            raise DecurError(f"has {count} bands '{band}'; name each otherwise")
        places.append(found.index(plain(band)) if count else None)
    return places


def band_map(names: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """Where each wanted band is among named ones, from 0; None for one that is black instead.

    Raises:
        DecurError: a wanted band is not there and may not be black, or is there twice.
    """
    places = positions(names, wanted)
    missing = [band for band, place in zip(wanted, places, strict=True) if place is None]
    if missing and (set(missing) - set(BLACK) or len(missing) == len(wanted)):
        raise DecurError(
            f"has the bands {', '.join(names)}, expected {', '.join(wanted)} "
            f"(without: {', '.join(missing)})"
        )
    return places
