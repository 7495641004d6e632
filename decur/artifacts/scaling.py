"""How the values of a modality became 8 bits: a typed value that cards and weights carry."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

Limits = tuple[float, ...]

RELATIVE = 1e-6
"""Relative difference up to which two limits are equal: they may have been measured twice."""


class Scaling(BaseModel):
    """A straight line per band from raw values to 0..255, clipped and truncated.

    `none`: the images have 8 bits already. `divide`: by `unit`. `stretch`: `black` becomes 0 and
    `white` 255; with `percentiles`, the values of each band of each image are first clipped to
    these, and without `black` and `white` these become 0 and 255. `from_dataset`: `black` and
    `white` follow from the mean and deviation of the dataset, so they differ between datasets that
    are scaled alike. `units` are those of the raw values; of `none` it is what the 8 bits are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "divide", "stretch"]
    units: str
    unit: int | float | None = None
    percentiles: tuple[float, float] | None = None
    black: Limits | None = None
    white: Limits | None = None
    from_dataset: bool = False

    @classmethod
    def stored(cls, what: str = "8 bits as stored") -> Self:
        """Images that have 8 bits already, and what these are."""
        return cls(kind="none", units=what)

    @classmethod
    def divided(cls, unit: float, units: str) -> Self:
        """Values whose `unit` becomes 255."""
        return cls(kind="divide", units=units, unit=unit)

    @classmethod
    def stretched(cls, limits: Sequence[Sequence[float]], units: str = "as read") -> Self:
        """A pair of limits per band, which become 0 and 255."""
        black, white = zip(*limits, strict=True)
        return cls(kind="stretch", units=units, black=tuple(black), white=tuple(white))

    @classmethod
    def clipped(cls, percentiles: tuple[float, float], units: str) -> Self:
        """The percentiles of each band of each image become 0 and 255."""
        return cls(kind="stretch", units=units, percentiles=percentiles)

    @property
    def limits(self) -> tuple[tuple[float, float], ...] | None:
        """What becomes 0 and 255 of each band, where that is the same for all images."""
        if self.black is None or self.white is None or self.percentiles is not None:
            return None
        return tuple(zip(self.black, self.white, strict=True))

    def words(self) -> str:
        """The scaling as a phrase."""
        if self.kind == "none":
            return self.units
        if self.kind == "divide":
            return f"{self.units}, divided by {self.unit:g}, 0..1 as 0..255"
        steps = []
        if self.percentiles is not None:
            low, high = self.percentiles
            steps.append(f"clipped to its {low:g}-{high:g} % range per image")
        if self.black is not None and self.white is not None:
            pairs = zip(self.black, self.white, strict=True)
            limits = ", ".join(f"{low:g} to {high:g}" for low, high in pairs)
            own = " (from the mean and deviation of the dataset)" if self.from_dataset else ""
            steps.append(f"{limits}{own} as 0..255")
        return f"{self.units}, {', then '.join(steps)}"

    def of_bands(self, places: Sequence[int | None]) -> Self:
        """The scaling of some bands, by their places; a band without a place is left out."""
        if self.black is None or self.white is None:
            return self
        kept = [place for place in places if place is not None]
        black, white = (tuple(limits[i] for i in kept) for limits in (self.black, self.white))
        return self.model_copy(update={"black": black, "white": white})

    def is_same(self, other: Self) -> bool:
        """Whether images are scaled alike, whatever the units are called.

        That are equal limits, or limits of each one's own dataset. Of images that had 8 bits
        already, it counts what these are.
        """
        if (self.kind, self.percentiles, self.unit) != (other.kind, other.percentiles, other.unit):
            return False
        if self.kind == "none":
            return self.units == other.units
        if self.from_dataset and other.from_dataset:
            return True
        return all(map(_are_close, (self.black, self.white), (other.black, other.white)))

    def description(self) -> dict[str, Any]:
        """The scaling as `preprocessing.json` of exported weights has it."""
        if self.kind == "none":
            return {"units": self.units, "scaling": "none"}
        if self.kind == "divide":
            return {"units": self.units, "scaling": "divide", "unit": self.unit}
        return {
            "units": self.units,
            "scaling": "stretch",
            "percentiles": None if self.percentiles is None else list(self.percentiles),
            "black": ["percentile"] if self.black is None else list(self.black),
            "white": ["percentile"] if self.white is None else list(self.white),
        }


def _are_close(a: Limits | None, b: Limits | None) -> bool:
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(
        abs(x - y) <= RELATIVE * max(abs(x), abs(y)) for x, y in zip(a, b, strict=True)
    )
