"""Paired samples on disk: a few plain `.npy` files per modality, a Parquet index, a JSON card.

Any tool reads them: `np.load(path, mmap_mode="r")` gives `(n, seasons, bands, height, width)`
uint8, row `i` of every modality being the same place, and `index.parquet` says which sample that
is. `card.json` is written last, so a folder with a card is complete.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decur.errors import DecurError

SHARD_BYTES = 256 * 2**20
MASK = "mask"


@dataclass(frozen=True)
class Modality:
    """What one array of a sample holds: its bands in order and how raw values became uint8."""

    name: str
    bands: tuple[str, ...]
    scaling: str


@dataclass(frozen=True)
class Sample:
    """One place seen by every modality.

    `arrays[modality]` is uint8 `(seasons, bands, H, W)`; `labels` a 0/1 vector over the classes
    (classification) and `mask` a uint8 `(H, W)` of class indices (segmentation), where they exist;
    `factors` the known causes of a synthetic scene.
    """

    id: str
    split: str
    arrays: Mapping[str, NDArray[np.uint8]]
    labels: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    place: str = ""
    source: str = ""
    factors: Mapping[str, int] = field(default_factory=dict)

    def checksum(self) -> str:
        """First 16 hex digits of the SHA-256 over all arrays and the labels."""
        digest = hashlib.sha256()
        for name in sorted(self.arrays):
            digest.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        for extra in (self.labels, self.mask):
            digest.update(b"" if extra is None else np.ascontiguousarray(extra).tobytes())
        return digest.hexdigest()[:16]


class ShardWriter:
    """Writes samples into a new shards folder, which replaces `root` only when complete.

    Use as a context manager; `card` is free-form description (title, licence, classes, origin),
    of which `ignore` is read: a mask of that value alone counts as no label.

    Raises:
        DecurError: a duplicate id, or an array that is not of the first sample's shape and dtype.
    """

    def __init__(
        self, root: Path, modalities: Sequence[Modality], card: Mapping[str, Any] | None = None
    ) -> None:
        self.root = Path(root)
        self.modalities = tuple(modalities)
        self.card = dict(card or {})
        self._part = self.root.with_name(self.root.name + ".part")
        self._buffers: dict[str, list[NDArray[np.uint8]]] = {}
        self._buffered = 0
        self._files: dict[str, list[str]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._moments = {
            m.name: np.zeros((3, len(m.bands)), dtype=np.float64) for m in self.modalities
        }

    def __enter__(self) -> Self:
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        else:
            shutil.rmtree(self._part, ignore_errors=True)

    def add(self, sample: Sample) -> None:
        """Append one sample; its arrays are copied to disk in whole shards."""
        if sample.id in self._ids:
            raise DecurError(f"{sample.source or sample.id}: duplicate sample id '{sample.id}'")
        arrays = {m.name: sample.arrays[m.name] for m in self.modalities}
        if sample.mask is not None:
            arrays[MASK] = sample.mask
        for name, array in arrays.items():
            self._check(sample, name, array)
        self._ids.add(sample.id)
        for name, array in arrays.items():
            self._buffers.setdefault(name, []).append(array)
            self._buffered += array.nbytes
        for modality in self.modalities:
            x = arrays[modality.name].astype(np.float64)
            axes = (0, 2, 3)
            count = np.full(x.shape[1], x.size / x.shape[1])
            self._moments[modality.name] += np.stack(
                [count, x.sum(axis=axes), np.square(x).sum(axis=axes)]
            )
        self._rows.append(
            {
                "id": sample.id,
                "split": sample.split,
                "place": sample.place,
                "seasons": next(iter(sample.arrays.values())).shape[0],
                "source": sample.source,
                "checksum": sample.checksum(),
                "labels": None if sample.labels is None else sample.labels.tolist(),
                "labelled": self._is_labelled(sample),
                **{f"factor_{name}": value for name, value in sample.factors.items()},
            }
        )
        if self._buffered >= SHARD_BYTES:
            self._flush()

    def _is_labelled(self, sample: Sample) -> bool:
        if sample.mask is None:
            return sample.labels is not None
        return bool((sample.mask != self.card.get("ignore")).any())

    def _check(self, sample: Sample, name: str, array: NDArray[np.uint8]) -> None:
        expected = self._shapes.setdefault(name, array.shape)
        bands = {m.name: len(m.bands) for m in self.modalities}
        wrong_bands = name in bands and (array.ndim != 4 or array.shape[1] != bands[name])
        if array.dtype != np.uint8 or array.shape != expected or wrong_bands:
            raise DecurError(
                f"{sample.source or sample.id}: {name} is {array.dtype} {array.shape}, expected "
                f"uint8 {expected}" + (f" with {bands[name]} bands" if wrong_bands else "")
            )

    def _flush(self) -> None:
        for name, arrays in self._buffers.items():
            files = self._files.setdefault(name, [])
            files.append(f"{name}-{len(files):05d}.npy")
            np.save(self._part / files[-1], np.stack(arrays))
        self._buffers, self._buffered = {}, 0

    def _finish(self) -> None:
        if not self._rows:
            raise DecurError(f"{self.root}: no sample was found; check the raw folder's layout")
        self._flush()
        index = pd.DataFrame(self._rows)
        index.to_parquet(self._part / "index.parquet", index=False)
        card = {
            **self.card,
            "modalities": [
                {**asdict(m), **_statistics(self._moments[m.name]), "shape": self._shapes[m.name]}
                for m in self.modalities
            ],
            "files": self._files,
            "counts": index["split"].value_counts().to_dict(),
            "checksum": hashlib.sha256("".join(index["checksum"]).encode()).hexdigest()[:16],
        }
        (self._part / "card.json").write_text(json.dumps(card, indent=1))
        shutil.rmtree(self.root, ignore_errors=True)
        self._part.rename(self.root)


def _statistics(moments: NDArray[np.float64]) -> dict[str, list[float]]:
    count, total, squares = moments
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()}


class PairedShards:
    """Read access to a shards folder: the index as a DataFrame, whole batches as arrays.

    Raises:
        DecurError: the folder has no card (not preprocessed, or interrupted), or is damaged.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        card = self.root / "card.json"
        if not card.is_file():
            raise DecurError(f"{card}: not found; run the preprocess stage for this dataset first")
        self.card: dict[str, Any] = json.loads(card.read_text())
        self.index = pd.read_parquet(self.root / "index.parquet")
        self._arrays: dict[str, list[NDArray[np.uint8]]] = {}
        self._starts: dict[str, NDArray[np.int64]] = {}
        for name, files in self.card["files"].items():
            arrays = [self._open(file) for file in files]
            lengths = [len(a) for a in arrays]
            if sum(lengths) != len(self.index):
                raise DecurError(
                    f"{self.root}: {name} holds {sum(lengths)} samples, the index "
                    f"{len(self.index)}; run the preprocess stage again"
                )
            self._arrays[name] = arrays
            self._starts[name] = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self.index)

    def _open(self, file: str) -> NDArray[np.uint8]:
        try:
            array: NDArray[np.uint8] = np.load(self.root / file, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DecurError(
                f"{self.root / file}: unreadable ({error}); run the preprocess stage again"
            ) from error
        return array

    def bands(self, modality: str) -> tuple[str, ...]:
        """Names of the modality's bands, in the order of the arrays."""
        for entry in self.card["modalities"]:
            if entry["name"] == modality:
                return tuple(entry["bands"])
        known = ", ".join(entry["name"] for entry in self.card["modalities"])
        raise DecurError(f"{self.root}: no modality '{modality}' (it has {known})")

    def rows(self, split: str, *, labelled: bool = False) -> NDArray[np.int64]:
        """Row numbers of a split, in the order of the index; on demand only those with labels."""
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

        `rows` (n,) are positions in the index, `seasons` (n,) which season of each (default 0).
        """
        self.bands(modality)
        seasons = np.zeros(len(rows), dtype=np.int64) if seasons is None else seasons
        return self._gather(modality, np.asarray(rows), seasons)

    def masks(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Class indices per pixel: uint8 `(n, H, W)`."""
        if MASK not in self._arrays:
            raise DecurError(f"{self.root}: has no per-pixel labels")
        return self._gather(MASK, np.asarray(rows), None)

    def labels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Multi-label vectors: uint8 0/1 `(n, classes)`."""
        column = self.index["labels"].iloc[rows]
        if column.isna().any():
            raise DecurError(f"{self.root}: has no multi-labels")
        return np.stack([np.asarray(v, dtype=np.uint8) for v in column])

    def _gather(
        self, name: str, rows: NDArray[np.int64], seasons: NDArray[np.int64] | None
    ) -> NDArray[np.uint8]:
        starts, arrays = self._starts[name], self._arrays[name]
        shard = np.searchsorted(starts, rows, side="right") - 1
        shape = arrays[0].shape[1:] if seasons is None else arrays[0].shape[2:]
        out = np.empty((len(rows), *shape), dtype=np.uint8)
        for number in np.unique(shard):
            at = np.flatnonzero(shard == number)
            inside = rows[at] - starts[number]
            key = inside if seasons is None else (inside, seasons[at])
            out[at] = arrays[number][key]
        return out
