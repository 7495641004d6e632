"""Describe one sample in memory, and the common properties of all samples of a folder."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.errors import DecurError

MASK = "mask"
TRAIN = "train"


@dataclass(frozen=True)
class Modality:
    """Describe one array of a sample: its bands in order, and how raw values became uint8.

    A scaling in words describes images that had 8 bits already.
    """

    name: str
    bands: tuple[str, ...]
    scaling: Scaling | str

    @property
    def typed_scaling(self) -> Scaling:
        """Return the scaling as an object, even if it was given in words."""
        given = self.scaling
        return given if isinstance(given, Scaling) else Scaling.stored(given)


class Georeference(NamedTuple):
    """Locate a stored array on the ground.

    `crs` is an EPSG code or WKT. `transform` (a, b, c, d, e, f) maps a column and a row, counted
    from the top left corner, to x = a column + b row + c and y = d column + e row + f.
    """

    crs: str
    transform: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """Hold one place in all modalities.

    `arrays[modality]` is uint8 `(seasons, bands, H, W)`. `labels` is a 0/1 vector over the classes
    (classification) and `mask` a uint8 `(H, W)` of class indices (segmentation), if they exist.
    `factors` are those of a synthetic scene. `georeference` locates the mask, if known.
    """

    id: str
    split: str
    arrays: Mapping[str, NDArray[np.uint8]]
    labels: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    place: str = ""
    source: str = ""
    factors: Mapping[str, int] = field(default_factory=dict)
    georeference: Georeference | None = None

    def all_arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Return the arrays by name, including the mask if there is one."""
        return dict(self.arrays) if self.mask is None else {**self.arrays, MASK: self.mask}

    def checksum(self) -> str:
        """Compute the first 16 hex digits of the SHA-256 over all arrays and the labels."""
        return sample_checksum(self.all_arrays(), self.labels)


def sample_checksum(
    arrays: Mapping[str, NDArray[np.uint8]], labels: NDArray[np.uint8] | None
) -> str:
    """Compute 16 hex digits of SHA-256 over a sample's arrays in name order, labels and mask."""
    digest = hashlib.sha256()
    for name in sorted(arrays.keys() - {MASK}):
        digest.update(np.ascontiguousarray(arrays[name]).data)
    for extra in (labels, arrays.get(MASK)):
        digest.update(b"" if extra is None else np.ascontiguousarray(extra).data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Spec:
    """Describe what all samples of a folder share: the `shapes` of their arrays and mask.

    A mask with only the value `ignore` counts as no label.
    """

    modalities: tuple[Modality, ...]
    shapes: Mapping[str, tuple[int, ...]]
    ignore: int | None = None

    @classmethod
    def of(cls, sample: Sample, modalities: Sequence[Modality], ignore: int | None) -> "Spec":
        """Take the shapes from a first sample.

        Raises:
            DecurError: it lacks a modality, or an array does not have these bands in uint8.
        """
        arrays = sample.all_arrays()
        names = [*(m.name for m in modalities), MASK]
        shapes = {name: arrays[name].shape for name in names if name in arrays}
        spec = cls(tuple(modalities), shapes, ignore)
        spec.stored(sample)
        return spec

    @property
    def sample_bytes(self) -> int:
        """Return the size of one stored sample."""
        return sum(prod(shape) for shape in self.shapes.values())

    def stored(self, sample: Sample) -> dict[str, NDArray[np.uint8]]:
        """Return the arrays of a sample to store, including its mask.

        Raises:
            DecurError: an array is missing, or not of the expected bands, shape and dtype.
        """
        where = sample.source or sample.id
        arrays = sample.all_arrays()
        bands = {m.name: len(m.bands) for m in self.modalities}
        for name in (*bands, *self.shapes):
            if name not in arrays:
                raise DecurError(f"{where}: sample '{sample.id}' has no {name}")
        if MASK in arrays and MASK not in self.shapes:
            raise DecurError(
                f"{where}: sample '{sample.id}' has a mask, but the ones before have none"
            )
        for name, expected in self.shapes.items():
            array = arrays[name]
            wrong_bands = name in bands and (array.ndim != 4 or array.shape[1] != bands[name])
            if array.dtype != np.uint8 or array.shape != expected or wrong_bands:
                raise DecurError(
                    f"{where}: {name} is {array.dtype} {array.shape}, expected "
                    f"uint8 {expected}" + (f" with {bands[name]} bands" if wrong_bands else "")
                )
        return {name: arrays[name] for name in self.shapes}

    def is_labelled(self, sample: Sample) -> bool:
        """Return whether a metric can count the sample."""
        if sample.mask is None:
            return sample.labels is not None
        return bool((sample.mask != self.ignore).any())
