"""Read a user's own images: one folder per modality, with matching names and optional labels.

Layout: `<modality>/<name>.<suffix>`, which are links to the user's folders. Beside them may be
`mask/<name>.<suffix>`, `labels.csv` and `split.csv`. A name may include folders. Each image is one
sample; with `cut`, each square of `pixels` that fits into it is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.windows import Window

from decur.artifacts.files import UnreadableError
from decur.artifacts.records import Card
from decur.artifacts.scaling import Scaling
from decur.config import Align, DatasetSettings, FolderSettings, FoldersSettings
from decur.datasets import Dataset, Record, Records
from decur.datasets.folder_labels import class_indices, mask_faults, stored_labels
from decur.datasets.folder_lists import (
    classes_of,
    hashed_split,
    images_by_name,
    read_column,
    read_splits,
)
from decur.datasets.raw_files import link, stored_modalities
from decur.datasets.rgbd import spread_colours
from decur.errors import DecurError
from decur.imagery.band_names import positions
from decur.imagery.bands import range_to_uint8, resize
from decur.imagery.grids import Area, Grid, common_area, is_same, on_grid, source_window
from decur.imagery.images import MOST_PIXELS
from decur.imagery.pixels import (
    GDAL,
    band_names,
    check_count,
    invalid_as_nan,
    opened,
    read_values,
)
from decur.imagery.rasters import named
from decur.shards import MASK, Georeference, Modality, Sample

LABELS, SPLIT = "labels.csv", "split.csv"


class Folders:
    """Provide the dataset module that the settings of own folders describe."""

    def __init__(self, name: str, own: FoldersSettings) -> None:
        self._own = own
        self.DATASET = Dataset(
            name=name,
            title=own.title or name,
            modalities=tuple(_modality(m, folder) for m, folder in own.modalities.items()),
            licence=own.licence,
            homepage=own.homepage,
            classes=own.classes,
            colours=spread_colours(len(own.classes)),
            ignore=own.stored_ignore if own.stores_masks else None,
        )

    def scan(self, root: Path, settings: DatasetSettings) -> Records:
        """List the images by name; one without a partner, split or valid label has a fault.

        A mask or a line of a CSV without an image has a fault, too.

        Raises:
            DecurError: a folder has no images, two images share a name, no name is in all folders,
                or a CSV cannot be parsed.
        """
        own = self._own
        images = {name: images_by_name(root / name) for name in own.modalities}
        _check_common(root, images)
        masks = {} if own.masks is None else images_by_name(root / MASK)
        labels = {} if own.labels is None else read_column(root / LABELS, "label")
        splits = read_splits(root / SPLIT) if isinstance(own.split, str) else None
        names = sorted(set.union(*map(set, images.values())))
        listed: dict[str, Mapping[str, Path | str]]
        listed = {MASK: masks, LABELS: labels, SPLIT: splits or {}}
        for what, given in listed.items():
            if given and not given.keys() & set(names):
                raise DecurError(f"{root / what}: names none of the images, such as '{names[0]}'")
        mask_fault = mask_faults(masks, own)

        def record(name: str) -> Record:
            paths = {m: found[name] for m, found in images.items() if name in found}
            chosen = classes_of(labels.get(name))
            split = hashed_split(name, own.split) if splits is None else splits.get(name, "")
            fault = (
                _partner_fault(root, name, paths, images)
                or _split_fault(root, name, split)
                or _label_fault(root, name, chosen, own.classes)
                or mask_fault.get(name, "")
            )
            if name in masks:
                paths[MASK] = masks[name]
            return Record(name, split, paths, place=name, labels=chosen, fault=fault)

        def parts(whole: Record) -> list[Record]:
            return _cut(whole, settings.side, own.align) if own.cut else [whole]

        found = chain.from_iterable(parts(record(name)) for name in names)
        return Records(chain(found, _without_image(root, names, listed)))

    def read(self, record: Record, settings: DatasetSettings) -> Sample:
        """Read one image of each modality, or one square of it, with its labels.

        Raises:
            DecurError: a file is damaged, has wrong bands, size or place, or has pixels without
                data; or a mask has a value without a class.
        """
        own, paths = self._own, record.paths
        wanted = [m for m in self.DATASET.modalities if m.name in self._stored(settings)]
        first = paths[wanted[0].name]
        grids, area = _grids(paths, first, own.align)
        window = _window(area, record.patch, settings.side if own.cut else None)

        def read_image(name: str, bands: Sequence[str] = (), align: Align = own.align) -> Any:
            return _read(grids[name], bands, area, window, align)

        scaled = {}
        for m in wanted:
            image, valid = read_image(m.name, m.bands)
            scaled[m.name] = _scaled(invalid_as_nan(image, valid), m, paths[m.name])
        mask = None
        if own.masks is not None:
            mask = np.full((window.height, window.width), own.stored_ignore, np.uint8)
            if MASK in paths:
                (values,), (valid,) = read_image(MASK, align="nearest")
                mask[valid] = class_indices(values[valid], own, paths[MASK])
        labels, mask = stored_labels(record.labels, mask, own, settings.pixels)
        return Sample(
            id=record.id,
            split=record.split,
            arrays={name: resize(x, settings.pixels)[None] for name, x in scaled.items()},
            labels=labels,
            mask=mask,
            place=record.place,
            source=str(first),
            georeference=_georeference(area, window, settings.pixels),
        )

    def arrange_samples(self, samples: Path, root: Path) -> None:
        """Link the folders and lists, whose paths are relative to `samples`.

        Raises:
            DecurError: one does not exist.
        """
        own, where = self._own, f"datasets.{self.DATASET.name}.folders"
        wanted: dict[str, tuple[str | None, Path]] = {
            f"modalities.{m}.folder": (folder.folder, root / m)
            for m, folder in own.modalities.items()
        }
        wanted |= {"masks": (own.masks, root / MASK), "labels": (own.labels, root / LABELS)}
        wanted["split"] = (own.split if isinstance(own.split, str) else None, root / SPLIT)
        for key, (given, target) in wanted.items():
            if given is None:
                continue
            source = samples / given
            if not (source.is_file() if target.suffix else source.is_dir()):
                raise DecurError(f"{where}.{key}: {source.absolute()} does not exist")
            link(source, target)

    def _stored(self, settings: DatasetSettings) -> tuple[str, ...]:
        return stored_modalities(self.DATASET, settings)


def described(card: Card) -> Dataset:
    """Describe the dataset of own images, from the card of their shards."""
    return Dataset(
        name=card.dataset,
        title=card.title,
        modalities=tuple(
            Modality(stored.name, stored.bands, stored.scaling) for stored in card.modalities
        ),
        licence=card.licence,
        homepage=card.homepage,
        classes=card.classes,
        colours=spread_colours(len(card.classes)),
        ignore=card.ignore,
    )


def _modality(name: str, folder: FolderSettings) -> Modality:
    limits = folder.limits  # also None for percentiles, before they are measured
    scaling = Scaling.stored() if limits is None else Scaling.stretched(limits)
    return Modality(name, folder.bands, scaling)


def _check_common(root: Path, images: Mapping[str, Mapping[str, Path]]) -> None:
    if not set.intersection(*map(set, images.values())):
        examples = ", ".join(f"'{min(found)}' in {root / m}" for m, found in images.items())
        raise DecurError(
            f"{root}: no name is in all folders ({examples}); images of a pair need the same name, "
            "whatever their suffix"
        )


def _partner_fault(
    root: Path, name: str, paths: Mapping[str, Path], images: Mapping[str, Mapping[str, Path]]
) -> str:
    for modality, found in images.items():
        if name not in found:
            there = next(iter(paths.values()))
            return f"{root / modality / name}: no image of this name, but {there} exists"
    return ""


def _without_image(
    root: Path, names: Sequence[str], listed: Mapping[str, Mapping[str, Path | str]]
) -> list[Record]:
    """Create a faulty record for each name in a list or mask folder that has no image.

    Such a name is most likely misspelt, and its image unlabelled or in no split.
    """
    there = set(names)
    vain = {name: what for what, found in listed.items() for name in found if name not in there}
    splits = listed[SPLIT]
    return [
        Record(
            name,
            str(splits.get(name, "")),
            fault=f"{root / what}: has '{name}', but no image has that name; correct or remove it",
        )
        for name, what in vain.items()
    ]


def _split_fault(root: Path, name: str, split: str) -> str:
    return "" if split else f"{root / SPLIT}: has no line for '{name}'"


def _label_fault(root: Path, name: str, labels: Sequence[str], classes: Sequence[str]) -> str:
    for label in labels:
        if label not in classes:
            known = ", ".join(classes)
            return f"{root / LABELS}: label '{label}' of '{name}' is none of the classes {known}"
    return ""


def pair_area(paths: Mapping[str, Path], first: Path, align: Align) -> Area:
    """Return the area that the images of a pair have in common, on the grid of `first`.

    Raises:
        DecurError: an image cannot be read, or the images cannot be paired pixel by pixel.
    """
    return _grids(paths, first, align)[1]


def _grids(paths: Mapping[str, Path], first: Path, align: Align) -> tuple[dict[str, Grid], Area]:
    """Read the grid of each image, and find the area that they share, on the first one's grid."""
    grids = {}
    with rasterio.Env(**GDAL):
        for name, path in paths.items():
            with opened(path) as file:
                grids[name] = Grid.of(path, file)
    ordered = sorted(grids.values(), key=lambda grid: grid.path != first)
    return grids, common_area(ordered, interpolated=align != "refuse")


def _cut(record: Record, side: int, align: Align) -> list[Record]:
    """Create one record per square, numbered from 1 row by row; a faulty one if none fits.

    Bad images are divided too, so that all their squares count as lost.
    """
    if not record.paths:
        return [record]
    path, fault = next(iter(record.paths.values())), record.fault
    try:
        _, area = _grids(record.paths, path, align)
        size: tuple[int, int] | None = (area.height, area.width)
    except UnreadableError:
        raise
    except DecurError as error:
        fault, size = fault or str(error), _first_size(record)
    if size is None:
        return [replace(record, fault=fault)]
    height, width = size
    rows, columns = height // side, width // side
    if not rows * columns:
        small = f"{path}: {width} x {height} pixels are less than a square of {side}"
        return [replace(record, fault=fault or small)]
    record = replace(record, fault=fault)
    return [
        replace(record, id=f"{record.id}_{row}-{column}", patch=1 + row * columns + column)
        for row in range(rows)
        for column in range(columns)
    ]


def _first_size(record: Record) -> tuple[int, int] | None:
    """Return the height and width of the first readable image."""
    for path in record.paths.values():
        try:
            with rasterio.Env(**GDAL), opened(path) as file:
                return file.height, file.width
        except UnreadableError:
            raise
        except DecurError:
            continue
    return None


def _window(area: Area, patch: int, side: int | None) -> Window:
    """Return the window of a numbered square; without `side`, the whole area."""
    if side is None:
        return Window(0, 0, area.width, area.height)
    row, column = divmod(patch - 1, area.width // side)
    return Window(column * side, row * side, side, side)


def _read(
    grid: Grid, bands: Sequence[str], area: Area, window: Window, align: Align
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read bands (C, H, W) of an image in a window of the common area, and which pixels are valid.

    Without band names the image is a mask.
    """
    path, labels = grid.path, not bands
    same = is_same(area, grid)
    part = area.window(window) if same else source_window(area, window, grid)
    with rasterio.Env(**GDAL), opened(path) as file:
        check_count(path, file, 1 if labels else len(bands), labels=labels)
        if part.width * part.height * file.count > MOST_PIXELS:
            raise DecurError(f"{path}: {part.width} x {part.height} pixels; set `cut: true`")
        with named(path):
            order = [0] if labels else band_order(file, bands)
        values, valid = read_values(path, file, order, window=part, labels=labels)
    if same:
        return values, valid
    assert align != "refuse"  # otherwise `common_area` would have refused the image's grid
    found = on_grid(np.where(valid, values, np.nan), grid, part, area, window, align)
    valid = np.isfinite(found)
    if np.issubdtype(values.dtype, np.integer):
        found = np.rint(np.where(valid, found, 0)).astype(values.dtype)
    return found, valid


def band_order(file: Any, bands: Sequence[str]) -> list[int]:
    """Find the bands of an open raster to read, from 0: by name if it has the names, else all.

    Raises:
        DecurError: two bands have the same name.
    """
    found = positions(band_names(file) or (), bands)
    return list(range(len(bands))) if None in found else found  # type: ignore[return-value]


def _scaled(image: NDArray[Any], modality: Modality, path: Path) -> NDArray[np.uint8]:
    with named(path):
        limits = modality.typed_scaling.limits
        if limits is not None:
            return range_to_uint8(image, limits)
        if np.issubdtype(image.dtype, np.floating) and np.isnan(image).any():
            raise DecurError("has pixels without data; fill them or remove the image")
        if image.dtype != np.uint8:
            raise DecurError(
                f"is {image.dtype}, not 8 bits; set `scale` to percentiles or [min, max]"
            )
        return image


def _georeference(area: Area, window: Window, pixels: int | tuple[int, int]) -> Georeference | None:
    """Compute where the stored sample lies; None if its file has no georeference."""
    crs, corner = area.first.crs, area.transform(window)
    if crs is None or corner is None:
        return None
    height, width = (pixels, pixels) if isinstance(pixels, int) else pixels
    stored = corner @ Affine.scale(window.width / width, window.height / height)
    return Georeference(crs.to_string(), tuple(stored)[:6])
