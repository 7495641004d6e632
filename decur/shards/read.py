"""Read shards: the index as a table, batches as arrays."""

import copy
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur.artifacts.files import read_patiently
from decur.artifacts.paths import CARD
from decur.artifacts.records import Card, StoredModality
from decur.errors import DecurError
from decur.shards.array_file import ArrayReader
from decur.shards.assemble import INDEX, VERSION
from decur.shards.sample import MASK, Georeference


class PairedShards:
    """Read a shards folder: the index as a DataFrame, batches as arrays.

    Raises:
        DecurError: the folder has no card (not preprocessed, or interrupted), or is damaged.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.card = read_card(self.root)
        self.index = read_index(self.root)
        self._arrays: dict[str, list[ArrayReader]] = {}
        self._starts: dict[str, NDArray[np.int64]] = {}
        self._orders: dict[str, Mapping[str, int | None]] = {}
        for name, files in self.card.files.items():
            arrays = [ArrayReader(self.root / file) for file in files]
            lengths = [len(a) for a in arrays]
            if sum(lengths) != len(self.index):
                raise DecurError(
                    f"{self.root}: {name} has {sum(lengths)} samples, but the index has "
                    f"{len(self.index)}; run the preprocess stage again"
                )
            self._arrays[name] = arrays
            self._starts[name] = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self.index)

    def in_bands(self, orders: Mapping[str, Mapping[str, int | None]]) -> "PairedShards":
        """Return the same samples with other bands of some modalities in `batch`.

        Args:
            orders: by modality, the wanted bands in order, each with its position among the stored
                bands; None fills a band with zeros.
        """
        other = copy.copy(self)
        other._orders = dict(orders)
        return other

    def bands(self, modality: str) -> tuple[str, ...]:
        """Return the names of the modality's bands, in the order of `batch`."""
        return tuple(self._orders.get(modality) or self._stored(modality).bands)

    def seen(self, modality: str) -> dict[str, list[float]]:
        """Return the range per band, `low` to `high`, of 98 % of the stored values."""
        found = self._stored(modality).percentiles
        return {"low": list(found["1"]), "high": list(found["99"])}

    def _stored(self, modality: str) -> StoredModality:
        found = self.card.modality(modality)
        if found is None:
            known = ", ".join(stored.name for stored in self.card.modalities)
            raise DecurError(f"{self.root}: no modality '{modality}' (it has {known})")
        return found

    def rows(self, split: str, *, labelled: bool = False) -> NDArray[np.int64]:
        """Return the row numbers of a split in index order; `labelled` keeps those with labels."""
        chosen = self.index["split"].to_numpy() == split
        if labelled:
            chosen &= self.index["labelled"].to_numpy(dtype=bool)
        rows = np.flatnonzero(chosen)
        if not len(rows):
            kind = "labelled sample" if labelled else "sample"
            raise DecurError(f"{self.root}: split '{split}' has no {kind}")
        return rows

    def batch(
        self, modality: str, rows: NDArray[np.int64], seasons: NDArray[np.int64] | None = None
    ) -> NDArray[np.uint8]:
        """Gather samples: uint8 `(n, bands, H, W)`.

        `rows` (n,) are positions in the index, `seasons` (n,) the season of each (default 0).
        """
        self.bands(modality)
        seasons = np.zeros(len(rows), dtype=np.int64) if seasons is None else seasons
        stored = self._gather(modality, np.asarray(rows), seasons)
        if modality not in self._orders:
            return stored
        order = list(self._orders[modality].values())
        given = np.zeros((len(rows), len(order), *stored.shape[2:]), np.uint8)
        there = [place for place in order if place is not None]
        given[:, [place is not None for place in order]] = stored[:, there]
        return given

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Gather masks: uint8 class indices `(n, H, W)`."""
        if MASK not in self._arrays:
            raise DecurError(f"{self.root}: has no per-pixel labels")
        return self._gather(MASK, np.asarray(rows), None)

    def arrays(self, row: int) -> dict[str, NDArray[np.uint8]]:
        """Read every array of one sample, with all seasons and the mask."""
        found = {}
        for name, starts in self._starts.items():
            shard = int(np.searchsorted(starts, row, side="right")) - 1
            array = self._arrays[name][shard]
            found[name] = np.empty(array.shape[1:], dtype=np.uint8)
            array.read_into(found[name], row - int(starts[shard]))
        return found

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return multi-label vectors: uint8 0/1 `(n, classes)`."""
        column = self.index["labels"].iloc[rows]
        if column.isna().any():
            raise DecurError(f"{self.root}: has no multi-labels")
        return np.stack([np.asarray(v, dtype=np.uint8) for v in column])

    def georeference(self, row: int) -> Georeference | None:
        """Return the georeference of a sample's arrays, if it has one."""
        if "crs" not in self.index:
            return None
        crs, transform = self.index["crs"].iloc[row], self.index["transform"].iloc[row]
        return Georeference(crs, tuple(map(float, transform))) if isinstance(crs, str) else None

    def _gather(
        self, name: str, rows: NDArray[np.int64], seasons: NDArray[np.int64] | None
    ) -> NDArray[np.uint8]:
        starts, arrays = self._starts[name], self._arrays[name]
        shards = np.searchsorted(starts, rows, side="right") - 1
        inside = (rows - starts[shards]).tolist()
        shape = arrays[0].shape[1:] if seasons is None else arrays[0].shape[2:]
        out = np.empty((len(rows), *shape), dtype=np.uint8)
        for i, shard in enumerate(shards):
            season = () if seasons is None else (int(seasons[i]),)
            arrays[shard].read_into(out[i], inside[i], *season)
        return out


def read_card(root: Path) -> Card:
    """Read the card of a folder.

    Raises:
        DecurError: the card is missing, damaged or of another layout version.
    """
    path = root / CARD
    if not path.is_file():
        raise DecurError(f"{path}: not found; run the preprocess stage for this dataset first")
    card = read_patiently(path, Card.read)
    if card.layout != VERSION:
        raise DecurError(
            f"{path}: layout {card.layout}, expected {VERSION}; run the preprocess stage again"
        )
    if not (card.modalities and card.files and card.contents and card.checksum):
        raise DecurError(f"{path}: is not complete; delete it and run the preprocess stage again")
    return card


def read_index(root: Path) -> pd.DataFrame:
    """Read the index of a folder, one row per sample.

    Raises:
        DecurError: the index is damaged or missing, or cannot be read.
    """
    path = root / INDEX
    if not path.is_file():
        raise DecurError(f"{path}: unreadable (not found); run the preprocess stage again")
    content = io.BytesIO(read_patiently(path, Path.read_bytes))
    try:
        return pd.read_parquet(content)
    except (OSError, ValueError) as error:  # pyarrow's own errors are subclasses
        reason = " ".join(str(error).split())
        raise DecurError(
            f"{path}: unreadable ({reason}); delete it and run the preprocess stage again"
        ) from error
