"""Interpret the labels of own images, and check that they contain every class."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from decur.artifacts.files import UnreadableError
from decur.config import FoldersSettings
from decur.errors import DecurError
from decur.imagery.bands import resize
from decur.imagery.pixels import GDAL, opened

Colour = tuple[int, ...]

REMEDY = "set `mask_values`, the value of each class, or the value to `ignore`"


def class_indices(mask: NDArray[Any], own: FoldersSettings, path: Path) -> NDArray[np.uint8]:
    """Convert a mask of any type and shape to the stored one: class 0, 1, ... of each value.

    Raises:
        DecurError: a value is neither that of a class nor the one to ignore.
    """
    meaning = {value: index for index, value in enumerate(own.class_values)}
    meaning.setdefault(own.ignore, own.stored_ignore)
    found, places = np.unique(mask, return_inverse=True)
    values = found.tolist()
    for value in values:
        if value not in meaning:
            raise DecurError(
                f"{path}: label {value:g} is neither {_told(own)}; the mask has "
                f"{_some(f'{v:g}' for v in values)}; {REMEDY}"
            )
    stored = np.array([meaning[value] for value in values], np.uint8)
    return stored[places].reshape(mask.shape)


def stored_labels(
    names: Sequence[str],
    mask: NDArray[np.uint8] | None,
    own: FoldersSettings,
    pixels: int | tuple[int, int],
) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Return the labels of a whole image, as 0 and 1, and its mask, as a sample stores them.

    Labels are None if `names` is empty, or if they come from a mask without a labelled pixel.

    Args:
        names: classes that a list assigns to the image.
        mask: class indices of the whole image.
        own: settings: whether the mask is stored, or which labels follow from it.
        pixels: side, or height and width, of the stored mask.
    """
    if mask is None:
        return (np.isin(own.classes, names).astype(np.uint8) if names else None), None
    if own.labels_from_masks is None:
        return None, resize(mask, pixels, "nearest")
    shares = np.bincount(mask.ravel(), minlength=256)[: len(own.classes)] / mask.size
    return ((shares >= own.labels_from_masks).astype(np.uint8) if shares.any() else None), None


def mask_faults(masks: Mapping[str, Path], own: FoldersSettings) -> dict[str, str]:
    """Find faults of masks before their pixels are read, by mask name.

    A mask has a fault if it has several bands, such as colours, or if its palette gives a class
    another colour than earlier masks: programs that reduce an image to a palette number its colours
    anew for each image.
    """
    faults: dict[str, str] = {}
    seen: dict[int, tuple[Colour, Path]] = {}
    for name, path in masks.items():
        try:
            palette = _palette(path)
        except UnreadableError:
            raise
        except DecurError as error:
            faults[name] = str(error)
            continue
        for value in own.class_values:
            colour = palette.get(value, ())
            if not any(colour[:3]) and value:  # no colour, or an unused palette entry
                continue
            known, other = seen.setdefault(value, (colour, path))
            if known != colour:
                faults[name] = (
                    f"{path}: the palette gives value {value} another colour than {other} does; "
                    "save all masks with one palette, or without any"
                )
                break
    return faults


def _palette(path: Path) -> dict[int, Colour]:
    """Read the colour of each value; empty without a palette."""
    with rasterio.Env(**GDAL), opened(path) as file:
        if file.count != 1:
            raise DecurError(
                f"{path}: has {file.count} bands, expected 1; a mask is one band of class values, "
                "not of colours"
            )
        try:
            found: dict[int, Colour] = file.colormap(1)
        except ValueError:
            return {}
        return found


def check_classes(name: str, own: FoldersSettings, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line per split whose labels lack a class, given the rows of the shards' index.

    Raises:
        DecurError: a class is in no label of any split.
    """
    if not own.classes:
        return []
    shown: dict[str, Counter[int]] = {}
    for row in rows:
        shown.setdefault(row["split"], Counter()).update(_shown(row))
    total = sum(shown.values(), Counter())
    for index, label in enumerate(own.classes):
        if not total[index]:
            raise DecurError(
                f"datasets.{name}.folders.classes: no {'label' if own.masks is None else 'mask'} "
                f"shows '{label}'; {_remedy(own, total, label)}"
            )
    lines = []
    for split, found in sorted(shown.items()):
        absent = [label for i, label in enumerate(own.classes) if not found[i]]
        if absent:
            lines.append(f"{name}: no label of the split '{split}' shows {_some(absent)}")
    return lines


def _shown(row: Mapping[str, Any]) -> Iterable[int]:
    """Return the classes of a sample, as stored."""
    if row.get("mask_values") is not None:
        return list(row["mask_values"])
    return np.flatnonzero(row["labels"]).tolist() if row["labels"] is not None else []


def _remedy(own: FoldersSettings, total: Counter[int], label: str) -> str:
    rest = f"remove '{label}' from `classes`"
    if own.masks is None:
        return f"{rest}, or correct the CSV of `labels`"
    if own.labels_from_masks is not None:
        return f"{rest}, or lower `labels_from_masks`"
    values = own.class_values
    found = [f"{values[i]} ('{own.classes[i]}')" for i in range(len(values)) if total[i]]
    if total[own.stored_ignore]:
        found.append(f"{own.ignore} (ignored)")
    kept = f"the masks have {', '.join(found) or 'no labelled pixel'}"
    if total[own.stored_ignore] and own.mask_values is None and len(own.classes) == len(found):
        rest = f"if {own.ignore} is '{label}', set {_suggested(own, total)}, else {rest}"
    else:
        rest = f"set `mask_values`, the value of each class, or {rest}"
    return f"{kept}; {rest}"


def _suggested(own: FoldersSettings, total: Counter[int]) -> str:
    """Suggest the setting that makes the ignored value the one class that no mask shows."""
    values = [v if total[i] else own.ignore for i, v in enumerate(own.class_values)]
    setting = f"`mask_values: {values}`"
    return setting if own.ignore == 255 else f"{setting} and another `ignore`"


def _told(own: FoldersSettings) -> str:
    """List the values that a mask may have, to follow "neither" in a message."""
    values = own.class_values
    known = _some(map(str, values)) if own.mask_values else f"0..{len(values) - 1}"
    return known if own.ignore in values else f"{known} nor {own.ignore}"


def _some(words: Iterable[str], most: int = 8) -> str:
    found = list(words)
    more = len(found) - most
    return ", ".join(found[:most]) + (f" and {more} more" if more > 0 else "")
