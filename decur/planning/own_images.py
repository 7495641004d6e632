"""Inspect a user's own folders of images: pairs, bands, value ranges, sizes and labels.

A few images are opened, evenly spaced by name, so that a large folder takes seconds, too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from decur.config import Align
from decur.config.strict import slug
from decur.datasets.folder_lists import classes_of, images_by_name, read_column
from decur.datasets.folders import pair_area
from decur.errors import DecurError
from decur.imagery.band_names import plain
from decur.imagery.pixels import (
    COLOURS,
    GDAL,
    band_names,
    check_declared,
    opened,
    read_values,
)

T = TypeVar("T")

OPENED = 48
"""Number of pairs that are opened."""

MASK_PIXELS = 200_000_000
"""About how many pixels of masks are read, so that rare classes are found."""

THUMBNAIL = 128
"""Pixels per side that are read to look for pixels without data."""

MOST_CLASSES = 64
"""A mask with more values than these is most likely no mask of classes."""

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Images:
    """One modality: its folder, and the properties that all opened images share.

    Attributes:
        bands: the names that the files give, or made-up ones.
        named: whether the files name their bands.
        dtype: data type of the stored values.
        stored: whether values can be used as they are: 8 bit without scale or offset.
    """

    name: str
    folder: Path
    bands: tuple[str, ...]
    named: bool
    dtype: str
    stored: bool

    @property
    def is_photo(self) -> bool:
        """Whether the images have the colours of photographs."""
        return self.stored and tuple(map(plain, self.bands)) == RGB


@dataclass(frozen=True)
class Masks:
    """A folder of masks: the value of each class, and the value for unlabelled pixels."""

    folder: Path
    values: tuple[int, ...]
    ignore: int | None


@dataclass(frozen=True)
class Labels:
    """A CSV of labels, and the classes in it."""

    path: Path
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """All that a configuration needs to know about a user's folders.

    Attributes:
        modalities: the folders of images, the one that gives the pixel grid first.
        pairs: number of names that all modalities have.
        alone: number of names that some modality lacks.
        size: height and width that the opened pairs have at least, on the first modality's grid.
        squares: mean number of squares of 128 pixels per pair.
        align: how images must be put on the first modality's grid.
        looked: number of pairs that were opened.
        faulty: how many of these cannot be read, or have pixels without data.
        labels: masks or a CSV, if there are any.
        labelled: number of pairs with a label.
    """

    modalities: tuple[Images, ...]
    pairs: int
    alone: int
    size: tuple[int, int]
    squares: float
    align: Align
    looked: int
    faulty: int
    labels: Masks | Labels | None
    labelled: int


def inspect(folders: Sequence[Path], labels: Path | None, square: int) -> Inspection:
    """Inspect folders of images with matching names, one per modality.

    Args:
        folders: at least two.
        labels: a folder of masks, or a CSV of `id,label`.
        square: side in pixels of the squares that are counted.

    Raises:
        DecurError: a folder is missing or empty, no names match, the images of a modality have
            different bands, no opened pair can be read, or the labels fit no image.
    """
    for folder in folders:
        if not folder.is_dir():
            raise DecurError(f"{folder}: no such folder")
    images = {
        name: images_by_name(folder)
        for name, folder in zip(_modality_names(folders), folders, strict=True)
    }
    common = sorted(set.intersection(*map(set, images.values())))
    if not common:
        examples = ", ".join(f"'{min(found)}' in {f}" for f, found in _zipped(folders, images))
        raise DecurError(
            f"no image has the same name in all folders ({examples}); give the images of one place "
            "the same name, whatever their suffix"
        )
    looked = evenly(common, OPENED)
    modalities = tuple(
        _inspect_modality(name, folder, [images[name][n] for n in looked])
        for name, folder in zip(images, folders, strict=True)
    )
    pairs = [{name: images[name][n] for name in images} for n in looked]
    sizes, align, paired = _inspect_pairs(pairs)
    found, labelled = (None, 0) if labels is None else _inspect_labels(labels, common)
    return Inspection(
        modalities=modalities,
        pairs=len(common),
        alone=len(set.union(*map(set, images.values()))) - len(common),
        size=(min(h for h, _ in sizes), min(w for _, w in sizes)),
        squares=float(np.mean([(h // square) * (w // square) for h, w in sizes])),
        align=align,
        looked=len(pairs),
        faulty=len(pairs) - len(paired) + sum(map(_has_gaps, paired)),
        labels=found,
        labelled=labelled,
    )


def evenly(items: Sequence[T], most: int) -> Sequence[T]:
    """Choose at most so many items, evenly spaced."""
    return items[:: ceil(len(items) / most)]


def _zipped(
    folders: Sequence[Path], images: Mapping[str, Mapping[str, Path]]
) -> list[tuple[Path, Mapping[str, Path]]]:
    return list(zip(folders, images.values(), strict=True))


def _modality_names(folders: Sequence[Path]) -> list[str]:
    """Name each modality by its folder; where names coincide, by more of the path, or a number."""
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        twice, _ = Counter(map(str, folders)).most_common(1)[0]
        raise DecurError(f"{twice}: given twice; give one folder per modality")
    for depth in (1, 2, 3):
        names = [slug("-".join(path.parts[-depth:])) for path in resolved]
        if len(set(names)) == len(names) and all(names) and "mask" not in names:
            return names
    return [f"modality-{number}" for number, _ in enumerate(folders, 1)]


def _inspect_modality(name: str, folder: Path, paths: Sequence[Path]) -> Images:
    """Describe the bands and values of a modality by some of its images."""
    seen: dict[tuple[int, str], Path] = {}
    names: set[tuple[str, ...] | None] = set()
    stored = True
    errors: list[DecurError] = []
    for path in paths:
        try:
            with rasterio.Env(**GDAL), opened(path) as file:
                check_declared(path, file)
                count = _count(path, file)
                seen.setdefault((count, file.dtypes[0]), path)
                given = band_names(file)
                names.add(given and given[:count])
                if given is None and tuple(file.colorinterp[:count]) == COLOURS:
                    names.add(RGB)
                plain_values = set(file.scales) == {1.0} and set(file.offsets) == {0.0}
                stored &= plain_values and set(file.dtypes) == {"uint8"}
        except DecurError as error:
            errors.append(error)
    if not seen:
        raise errors[0]
    (count, dtype), first = next(iter(seen.items()))
    for (other, _), path in seen.items():
        if other != count:
            raise DecurError(
                f"{path}: has {other} bands, but {first} has {count}; keep images with different "
                "bands in different folders"
            )
    bands, named = _named(names, count)
    return Images(name, folder, bands, named, dtype, stored)


def _count(path: Path, file: Any) -> int:
    """Count the bands that hold values: all but an alpha band.

    GDAL takes the last of two or four bands of a TIFF for alpha unless the file denies it. It is
    data if it has other values than "transparent" and "opaque".
    """
    count = int(file.count)
    if count not in (2, 4) or file.colorinterp[-1] != ColorInterp.alpha:
        return count
    if file.driver == "GTiff":
        shape = min(file.height, THUMBNAIL), min(file.width, THUMBNAIL)
        values = file.read(count, out_shape=shape)
        if not np.isin(values, (0, np.iinfo(values.dtype).max)).all():
            return count
    return count - 1


def _named(names: set[tuple[str, ...] | None], count: int) -> tuple[tuple[str, ...], bool]:
    """The bands' own names where all images agree and names differ; otherwise made-up ones."""
    given = names - {None}
    if len(given) == 1:
        (found,) = given
        if found is not None and len(set(map(plain, found))) == count:
            return found, None not in names
    if count == 1:
        return ("value",), False
    return tuple(f"band {number}" for number in range(1, count + 1)), False


def _inspect_pairs(
    pairs: Sequence[Mapping[str, Path]],
) -> tuple[list[tuple[int, int]], Align, list[Mapping[str, Path]]]:
    """Return the sizes of the pairs that fit together, how to align them, and these pairs."""
    sizes: list[tuple[int, int]] = []
    align: Align = "refuse"
    errors: list[DecurError] = []
    fitting: list[Mapping[str, Path]] = []
    for pair in pairs:
        first = next(iter(pair.values()))
        try:
            area = pair_area(pair, first, "refuse")
        except DecurError as refused:
            try:
                area = pair_area(pair, first, "bilinear")
            except DecurError:
                errors.append(refused)
                continue
            align = "bilinear"
        sizes.append((area.height, area.width))
        fitting.append(pair)
    if not sizes:
        raise errors[0]
    return sizes, align, fitting


def _has_gaps(pair: Mapping[str, Path]) -> bool:
    """Whether an image of a pair has pixels without data, or cannot be read to its end."""
    for path in pair.values():
        try:
            with rasterio.Env(**GDAL), opened(path) as file:
                shape = min(file.height, THUMBNAIL), min(file.width, THUMBNAIL)
                _, valid = read_values(path, file, range(_count(path, file)), shape=shape)
        except DecurError:
            return True
        if not valid.all():
            return True
    return False


def _inspect_labels(path: Path, names: Sequence[str]) -> tuple[Masks | Labels, int]:
    """Describe the labels, and count the names that have one."""
    if path.is_dir():
        masks = images_by_name(path)
        there = [name for name in names if name in masks]
        _check_some(path, there, names)
        return _inspect_masks(path, [masks[n] for n in there]), len(there)
    if not path.is_file():
        raise DecurError(f"{path}: no such file or folder; give a folder of masks or a CSV")
    column = read_column(path, "label")
    there = [name for name in names if column.get(name)]
    _check_some(path, there, names)
    classes = sorted({label for name in there for label in classes_of(column[name])})
    if len(classes) < 2:
        raise DecurError(f"{path}: has the class {classes[0]} only; at least two are needed")
    return Labels(path, tuple(classes)), len(there)


def _check_some(path: Path, there: Sequence[str], names: Sequence[str]) -> None:
    if not there:
        raise DecurError(f"{path}: has no label of an image, such as '{names[0]}'")


def _inspect_masks(folder: Path, paths: Sequence[Path]) -> Masks:
    """Find the values of the classes in some masks."""
    with rasterio.Env(**GDAL), opened(paths[0]) as file:
        most = max(OPENED, MASK_PIXELS // (file.height * file.width))
    values: set[int] = set()
    nodata: set[int] = set()
    for path in evenly(paths, most):
        with rasterio.Env(**GDAL), opened(path) as file:
            if file.count != 1:
                raise DecurError(
                    f"{path}: has {file.count} bands; a mask has one band of class values"
                )
            found, valid = read_values(path, file, [0], labels=True)
            whole = np.unique(found[valid])
            if (whole != np.rint(whole)).any():
                raise DecurError(
                    f"{path}: has the value {whole[whole != np.rint(whole)][0]:g}; a "
                    "mask has whole numbers, one per class"
                )
            values |= set(whole.astype(int).tolist())
            nodata |= set(np.unique(found[~valid & np.isfinite(found)]).astype(int).tolist())
    if len(values) > MOST_CLASSES:
        raise DecurError(
            f"{folder}: the masks have {len(values)} values, from {min(values)} to {max(values)}; "
            "a mask has one value per class"
        )
    ignore = _unlabelled(values, nodata)
    classes = tuple(sorted(values - {ignore}))
    if len(classes) < 2:
        raise DecurError(f"{folder}: the masks show {sorted(values)} only; two classes are needed")
    return Masks(folder, classes, ignore)


def _unlabelled(values: set[int], nodata: set[int]) -> int | None:
    """The value that means "not labelled": the files' nodata, 255 beside 0, 1, 2..., or below 0."""
    if nodata:
        return min(nodata)
    rest = sorted(values - {255})
    if 255 in values and len(rest) > 1 and rest == list(range(rest[0], rest[-1] + 1)):
        return 255
    below = [value for value in values if value < 0]
    return below[0] if len(below) == 1 else None
