"""Predictions of evaluation samples, gathered batch by batch, in files that other programs open.

Class maps are GeoTIFFs where the samples lie somewhere on the ground, else palette PNGs, beside
`legend.csv`; class probabilities are one table, `probabilities.parquet`.
"""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio import Affine

from decur.artifacts.ownership import remove_entry, write_folder_ours
from decur.datasets import Dataset
from decur.errors import DecurError
from decur.shards import Georeference, PairedShards

if TYPE_CHECKING:  # who only reads predictions needs no torch
    from torch import Tensor


PREDICTIONS = "predictions"
"""Folder of the predictions, beside the metrics."""

Wanted = Literal["none", "all"] | int
"""How many evaluation samples, evenly spaced, whose predictions are kept."""


def evenly_spaced(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` of the rows from the first to the last; all if there are fewer."""
    count = min(count, len(rows))
    return rows[np.arange(count) * (len(rows) - 1) // max(count - 1, 1)]


def kept_rows(shards: PairedShards, dataset: Dataset, wanted: Wanted) -> NDArray[np.int64]:
    """The rows of the labelled evaluation samples whose predictions are kept, ascending."""
    rows = shards.rows(dataset.evaluation, labelled=True)
    if isinstance(wanted, int):
        return evenly_spaced(rows, wanted)
    return rows if wanted == "all" else rows[:0]


class Predictions:
    """Gathers in memory the predictions that a recipe wants to keep, until they are written."""

    def __init__(self, shards: PairedShards, dataset: Dataset, wanted: Wanted) -> None:
        self._shards, self._dataset = shards, dataset
        self._rows = kept_rows(shards, dataset, wanted)
        self._found: dict[int, NDArray[Any]] = {}

    def add(self, rows: NDArray[np.int64], logits: "Tensor") -> None:
        """Take what is to be kept of a batch; what an earlier evaluation said is replaced.

        Args:
            rows: (n,) positions in the shards' index.
            logits: float (n, classes), or (n, classes, H, W) for class maps.
        """
        at = np.flatnonzero(np.isin(rows, self._rows))
        chosen = logits[at]
        said = chosen.sigmoid().float() if logits.ndim == 2 else chosen.argmax(dim=1).byte()
        self._found.update(zip(rows[at].tolist(), said.cpu().numpy(), strict=True))

    def write(self, folder: Path) -> None:
        """Put the predictions in the place of earlier ones; without any, remove the folder.

        Raises:
            DecurError: the folder is not ours, or cannot be written.
        """
        if self._found:
            write_folder_ours(folder, self._write)
        else:
            remove_entry(folder)

    def _write(self, folder: Path) -> None:
        rows = sorted(self._found)
        ids = self._shards.index["id"].iloc[rows].tolist()
        said = [self._found[row] for row in rows]
        if said[0].ndim == 1:
            table = pd.DataFrame(np.stack(said), columns=list(self._dataset.classes))
            table.insert(0, "id", ids)
            table.to_parquet(folder / "probabilities.parquet", index=False)
            return
        _write_legend(folder / "legend.csv", self._dataset)
        for row, sample, classes in zip(rows, ids, said, strict=True):
            _write_map(folder, sample, classes, self._dataset, self._shards.georeference(row))


def palette(dataset: Dataset) -> NDArray[np.uint8]:
    """The colour of every mask value, (256, 3); black where the value is no class."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(dataset.colours)] = np.reshape(dataset.colours, (-1, 3))
    return colours


def _write_map(
    folder: Path,
    sample: str,
    classes: NDArray[np.uint8],
    dataset: Dataset,
    place: Georeference | None,
) -> None:
    """Write the class map (H, W) of a sample, named by its id, in the dataset's colours."""
    path = _map_path(folder, sample, place)
    colours = palette(dataset)
    if place is None:
        image = Image.fromarray(classes)
        image.putpalette(colours.tobytes())
        image.save(path)
        return
    profile = {"height": len(classes), "width": classes.shape[1], "count": 1, "dtype": "uint8"}
    ground = {"crs": place.crs, "transform": Affine(*place.transform), "nodata": dataset.ignore}
    with rasterio.open(path, "w", driver="GTiff", compress="LZW", **profile, **ground) as file:
        file.write_colormap(1, dict(enumerate(map(tuple, colours.tolist()))))
        file.write(classes, 1)


def read_map(folder: Path, sample: str, place: Georeference | None) -> NDArray[np.uint8] | None:
    """The class map (H, W) of a sample; None where there is none.

    Raises:
        DecurError: the file is damaged.
    """
    path = _map_path(folder, sample, place)
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return np.array(image)
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise DecurError(f"{path}: is no class map; delete it and run again") from error


def _map_path(folder: Path, sample: str, place: Georeference | None) -> Path:
    """The file of a sample's class map; what no file name may hold of its id is spelt %2F."""
    return folder / f"{quote(sample, safe='')}.{'png' if place is None else 'tif'}"


def _write_legend(path: Path, dataset: Dataset) -> None:
    colours = palette(dataset).tolist()
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["value", "class", "red", "green", "blue"])
        lines.writerows([i, n, *colours[i]] for i, n in enumerate(dataset.classes))
