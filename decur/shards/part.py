"""Write one shard: a file per modality that grows by one row per sample, and its metadata.

Shards are written in a hidden stage of their folder. A small JSON, written last, marks a shard as
complete, so what a killed job leaves is either complete or never read.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.files import (
    read_patiently,
    remove_left_over,
    temporary_of,
    write_all,
    write_atomically,
    writing,
)
from decur.artifacts.ownership import HIDDEN
from decur.shards.sample import TRAIN, Sample, Spec, sample_checksum

FORMAT = 3
"""Format of the shard metadata; shards of other formats are made again."""

STAGE = "parts"
PARTS = Path(HIDDEN) / STAGE
"""Folder of the shards, below their final folder, until all are complete."""

LEVELS = 256


class Fault(NamedTuple):
    """Record a sample that was left out: its id, one of its files, and the reason."""

    id: str
    source: str
    reason: str


@dataclass
class ShardPart:
    """Hold the metadata of a shard: index rows, faults, and size and SHA-256 per file.

    `histograms[modality]` counts the values 0..255 of each band, in training samples only.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)
    histograms: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Create the metadata of a shard without samples."""
        shapes = {m.name: (len(m.bands), LEVELS) for m in spec.modalities}
        return cls(histograms={m: np.zeros(shape, np.int64) for m, shape in shapes.items()})

    def add(self, sample: Sample, spec: Spec) -> None:
        """Add the row of a sample, whose arrays match `spec`, and count its values."""
        arrays = spec.stored(sample)
        if sample.split == TRAIN:
            for name, counts in self.histograms.items():
                _count(arrays[name], counts)
        self.rows.append(
            {
                "id": sample.id,
                "split": sample.split,
                "place": sample.place,
                "seasons": next(iter(arrays.values())).shape[0],
                "source": sample.source,
                "checksum": sample_checksum(arrays, sample.labels),
                "labels": None if sample.labels is None else sample.labels.tolist(),
                "labelled": spec.is_labelled(sample),
                **{f"factor_{name}": value for name, value in sample.factors.items()},
                **_place_columns(sample),
                **_mask_columns(sample),
            }
        )


def array_path(root: Path, name: str, number: int) -> Path:
    """Return the path of a shard's array `name` until all shards are complete."""
    return root / PARTS / f"{name}-{number:05d}.npy"


def array_header(shape: tuple[int, ...]) -> bytes:
    """Create the header of a `.npy` file of uint8; numpy pads it, so that its length is the same
    for any number of rows."""
    header = io.BytesIO()
    tree = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, tree)
    return header.getvalue()


class ArrayFile:
    """Write a `.npy` file of uint8 that grows row by row.

    Plain writes are used rather than a memory map: on a full disk a write fails, but a map ends the
    process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self._shape = shape
        self._rows = 0
        self._file = path.open("w+b", buffering=0)
        self._header()

    def append(self, row: NDArray[np.uint8]) -> None:
        """Write one more row, uint8 of the given shape."""
        write_all(self._file, np.ascontiguousarray(row))
        self._rows += 1

    def close(self) -> dict[str, Any]:
        """Complete the header; returns size and SHA-256 of the file, which is read again."""
        self._header()
        self._file.seek(0)
        facts = _contents(self._file)
        self._file.close()
        return facts

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _header(self) -> None:
        self._file.seek(0)
        write_all(self._file, array_header((self._rows, *self._shape)))


class Shard:
    """Write a shard; as a context manager, it removes the shard after an error.

    Raises:
        DecurError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, root: Path, number: int, spec: Spec) -> None:
        self.part = ShardPart.of(spec)
        self._root, self._spec, self._number = root, spec, number
        self._arrays: dict[str, ArrayFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def add(self, sample: Sample) -> None:
        """Append a sample; raises a DecurError if its arrays differ from the others'."""
        arrays = self._spec.stored(sample)
        with writing(self._root):
            if not self._arrays:
                self._open()
            for name, array in arrays.items():
                self._arrays[name].append(array)
        self.part.add(sample, self._spec)

    def close(self) -> None:
        """Give the complete files their names; a shard without samples has no files."""
        with writing(self._root):
            for name, array in self._arrays.items():
                path = self._path(name)
                self.part.contents[path.name] = array.close()
                self.part.files[name] = path.name
                array.path.replace(path)

    def discard(self) -> None:
        """Remove the written files."""
        for array in self._arrays.values():
            array.discard()

    def _open(self) -> None:
        (self._root / PARTS).mkdir(parents=True, exist_ok=True)
        for name, shape in self._spec.shapes.items():
            path = self._path(name)
            remove_left_over(path)
            # The process number separates these files from those of an older job still running.
            self._arrays[name] = ArrayFile(temporary_of(path), shape)

    def _path(self, name: str) -> Path:
        return array_path(self._root, name, self._number)


def _place_columns(sample: Sample) -> dict[str, Any]:
    """Return the columns `crs` and `transform` of a georeferenced sample; else no columns."""
    found = sample.georeference
    return {} if found is None else {"crs": found.crs, "transform": list(found.transform)}


def _mask_columns(sample: Sample) -> dict[str, Any]:
    """Return the mask's values in ascending order as a column; no column without a mask."""
    if sample.mask is None:
        return {}
    counts = np.bincount(sample.mask.ravel(), minlength=LEVELS)
    return {"mask_values": np.flatnonzero(counts).tolist()}


def _count(array: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Add an array's (seasons, bands, H, W) values to its bands' histograms (bands, 256)."""
    for season in array:
        for band, count in zip(season, counts, strict=True):
            count += np.bincount(band.ravel(), minlength=LEVELS)


def file_facts(path: Path) -> dict[str, Any]:
    """Compute the size in bytes and the SHA-256 of a file.

    Raises:
        UnreadableError: the file system cannot read it.
    """
    return read_patiently(path, _facts)


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return _contents(file)


def _contents(file: Any) -> dict[str, Any]:
    digest = file_digest(file, "sha256").hexdigest()
    return {"bytes": file.seek(0, os.SEEK_END), "sha256": digest}


def save_part(
    root: Path, number: int, identity: str, part: ShardPart, copies: Sequence[Path] = ()
) -> None:
    """Mark a shard as complete; `identity` identifies everything it was made from.

    `copies` then replace files of the shard, see `copy_of`; after an interruption, `load_part` does
    it.
    """
    about = {
        "identity": identity,
        "rows": len(part.rows),
        "faults": part.faults,
        "files": part.files,
        "contents": part.contents,
        "histograms": {name: counts.tolist() for name, counts in part.histograms.items()},
    }

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            for tree in (about, *part.rows):
                file.write(f"{json.dumps(tree)}\n")

    with writing(root):
        write_atomically(_marker(root, number), write)
        for path in copies:
            copy_of(path).replace(path)


def is_noted(root: Path, number: int, identity: str) -> bool:
    """Return whether a shard of this identity is marked complete; its files may have changed."""
    try:
        return bool(_about(root, number)["identity"] == identity)
    except (OSError, ValueError, KeyError):
        return False


def drop_part(root: Path, number: int, names: Iterable[str]) -> None:
    """Remove a shard with these arrays, because its files have changed, to be made again."""
    with writing(root):
        for path in (_marker(root, number), *(array_path(root, name, number) for name in names)):
            path.unlink(missing_ok=True)


def load_part(root: Path, number: int, identity: str) -> ShardPart | None:
    """Load a complete shard if its identity matches and its files are unchanged, else None."""
    try:
        about = _about(root, number)
        if about["identity"] != identity:
            return None
        for file, facts in about["contents"].items():
            path = root / PARTS / file
            copy = copy_of(path)
            if copy.is_file() and file_facts(copy) == facts:
                copy.replace(path)
            elif file_facts(path) != facts:
                return None
        return _part(root, number)
    except (OSError, ValueError, KeyError):
        return None


class SavedParts:
    """Read the first `count` complete shards of a folder one by one, again on each iteration.

    A row takes about a kilobyte of memory, so the rows of all shards may not fit.
    """

    def __init__(self, root: Path, count: int) -> None:
        self._root, self._count = root, count

    def __iter__(self) -> Iterator[ShardPart]:
        for number in range(self._count):
            yield _part(self._root, number)


def _about(root: Path, number: int) -> dict[str, Any]:
    """Read the first line of a shard's file: its metadata without the rows."""
    with _marker(root, number).open(encoding="utf-8") as file:
        return dict(json.loads(file.readline()))


def _part(root: Path, number: int) -> ShardPart:
    """Read the metadata file of a shard; raises a ValueError if it is incomplete."""
    with _marker(root, number).open(encoding="utf-8") as file:
        about, *rows = map(json.loads, file)
    if len(rows) != about["rows"]:
        raise ValueError(f"{len(rows)} rows, expected {about['rows']}")
    return ShardPart(
        rows=rows,
        faults=[Fault(*fault) for fault in about["faults"]],
        files=about["files"],
        contents=about["contents"],
        histograms={name: np.array(counts) for name, counts in about["histograms"].items()},
    )


def copy_of(path: Path) -> Path:
    """Return the path of a copy that will replace this file of a shard."""
    return path.with_suffix(".good")


def _marker(root: Path, number: int) -> Path:
    return root / PARTS / f"{number:05d}.jsonl"
