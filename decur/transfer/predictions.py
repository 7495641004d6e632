"""Collect predictions of evaluation samples, and write them to files of common formats.

Class maps are GeoTIFFs if the samples are georeferenced, otherwise palette PNGs, beside
`legend.csv`. Class probabilities are one table, `probabilities.parquet`.
"""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio import Affine

from decur.artifacts.ownership import remove_entry, write_folder_ours
from decur.artifacts.predictions import map_path
from decur.datasets import Dataset
from decur.shards import Georeference, PairedShards
from decur.shards.select import Wanted, kept_rows

if TYPE_CHECKING:  # code that only reads predictions needs no torch
    from torch import Tensor


class Predictions:
    """Collect in memory the predictions that a recipe asks for, until they are written."""

    def __init__(self, shards: PairedShards, dataset: Dataset, wanted: Wanted) -> None:
        self._shards, self._dataset = shards, dataset
        self._rows = kept_rows(shards, dataset.evaluation, wanted)
        self._predicted: dict[int, NDArray[Any]] = {}

    def add(self, rows: NDArray[np.int64], logits: "Tensor") -> None:
        """Keep the requested predictions of a batch; they replace those of earlier evaluations.

        Args:
            rows: (n,) positions in the shards' index.
            logits: float (n, classes), or (n, classes, H, W) for class maps.
        """
        at = np.flatnonzero(np.isin(rows, self._rows))
        chosen = logits[at]
        predicted = chosen.sigmoid().float() if logits.ndim == 2 else chosen.argmax(dim=1).byte()
        self._predicted.update(zip(rows[at].tolist(), predicted.cpu().numpy(), strict=True))

    def write(self, folder: Path) -> None:
        """Write the predictions in place of earlier ones; without any, remove the folder.

        Raises:
            DecurError: the folder is not ours, or cannot be written.
        """
        if self._predicted:
            write_folder_ours(folder, self._write)
        else:
            remove_entry(folder)

    def _write(self, folder: Path) -> None:
        rows = sorted(self._predicted)
        ids = self._shards.index["id"].iloc[rows].tolist()
        predicted = [self._predicted[row] for row in rows]
        if predicted[0].ndim == 1:
            table = pd.DataFrame(np.stack(predicted), columns=list(self._dataset.classes))
            table.insert(0, "id", ids)
            table.to_parquet(folder / "probabilities.parquet", index=False)
            return
        _write_legend(folder / "legend.csv", self._dataset)
        for row, sample, classes in zip(rows, ids, predicted, strict=True):
            _write_map(folder, sample, classes, self._dataset, self._shards.georeference(row))


def _write_map(
    folder: Path,
    sample: str,
    classes: NDArray[np.uint8],
    dataset: Dataset,
    place: Georeference | None,
) -> None:
    """Write a sample's class map (H, W) in the dataset's colours, to a file named by its id."""
    path = map_path(folder, sample, on_ground=place is not None)
    colours = dataset.palette()
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


def _write_legend(path: Path, dataset: Dataset) -> None:
    colours = dataset.palette().tolist()
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["value", "class", "red", "green", "blue"])
        lines.writerows([i, n, *colours[i]] for i, n in enumerate(dataset.classes))
