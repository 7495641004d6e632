"""Describe how raw values of a modality are scaled to 8 bits; stored in cards and weights."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

Limits = tuple[float, ...]

RELATIVE = 1e-6
"""Relative difference up to which two limits count as equal, since both may be measured."""


class Scaling(BaseModel):
    """A linear map per band from raw values to 0..255, clipped and truncated.

    - `none`: the images already have 8 bits; `units` describes them.
    - `divide`: values are divided by `unit`, which becomes 255.
    - `stretch`: `black` becomes 0 and `white` becomes 255. With `percentiles`, each band of each
      image is first clipped to these percentiles. Without `black` and `white`, the percentiles
      become 0 and 255.

    `from_dataset` is true if `black` and `white` are computed from the mean and standard deviation
    of the dataset; they then differ between datasets with the same scaling. `units` are the units
    of the raw values.
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
        """Return the scaling of images that already have 8 bits; `what` describes them."""
        return cls(kind="none", units=what)

    @classmethod
    def divided(cls, unit: float, units: str) -> Self:
        """Return the scaling that maps `unit` to 255."""
        return cls(kind="divide", units=units, unit=unit)

    @classmethod
    def stretched(cls, limits: Sequence[Sequence[float]], units: str = "as read") -> Self:
        """Return the scaling that maps a pair of limits per band to 0 and 255."""
        black, white = zip(*limits, strict=True)
        return cls(kind="stretch", units=units, black=tuple(black), white=tuple(white))

    @classmethod
    def clipped(cls, percentiles: tuple[float, float], units: str) -> Self:
        """Return the scaling that maps two percentiles of each band and image to 0 and 255."""
        return cls(kind="stretch", units=units, percentiles=percentiles)

    @property
    def limits(self) -> tuple[tuple[float, float], ...] | None:
        """Return the values that become 0 and 255 per band; None if they differ between images."""
        if self.black is None or self.white is None or self.percentiles is not None:
            return None
        return tuple(zip(self.black, self.white, strict=True))

    def words(self) -> str:
        """Return the scaling as a phrase."""
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
        """Return the scaling of some bands, by their indices; None in `places` is skipped."""
        if self.black is None or self.white is None:
            return self
        kept = [place for place in places if place is not None]
        black, white = (tuple(limits[i] for i in kept) for limits in (self.black, self.white))
        return self.model_copy(update={"black": black, "white": white})

    def is_same(self, other: Self) -> bool:
        """Return whether two scalings are equivalent, even if their units have different names.

        The limits must be equal, or both must be computed from their datasets. Images that already
        have 8 bits must have the same description.
        """
        if (self.kind, self.percentiles, self.unit) != (other.kind, other.percentiles, other.unit):
            return False
        if self.kind == "none":
            return self.units == other.units
        if self.from_dataset and other.from_dataset:
            return True
        return all(map(_are_close, (self.black, self.white), (other.black, other.white)))

    def description(self) -> dict[str, Any]:
        """Return the scaling in the form used in `preprocessing.json` of exported weights."""
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
