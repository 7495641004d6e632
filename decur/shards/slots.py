"""Write a shard whose samples arrive in any order, array by array, into one slot (row) each.

Rows are written to the shard's final files. If all samples turn out to be good, the files are
complete as they are. Otherwise the rows of the good samples are copied to files that replace them.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.files import writing
from decur.shards.array_file import ArrayReader
from decur.shards.part import (
    PARTS,
    ArrayFile,
    ShardPart,
    array_header,
    array_path,
    copy_of,
    file_facts,
)
from decur.shards.sample import Spec


class Slots:
    """Manage the files of one shard with room for `rows` samples.

    Raises:
        DecurError: in all methods, if the folder cannot be read or written, or the disk is full.
    """

    def __init__(self, root: Path, number: int, spec: Spec, rows: int) -> None:
        self._root, self._number, self._spec, self._rows = root, number, spec, rows

    def create(self) -> bool:
        """Create the files unless they exist; returns whether one was created.

        Several processes may do so at the same time: all write the same.
        """
        made = False
        if not self._rows:
            return made
        with writing(self._root):
            (self._root / PARTS).mkdir(parents=True, exist_ok=True)
            for name, shape in self._spec.shapes.items():
                path = self._path(name)
                header = array_header((self._rows, *shape))
                size = len(header) + self._rows * math.prod(shape)
                if path.is_file() and path.stat().st_size == size:
                    continue
                made = True
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
                try:
                    os.ftruncate(descriptor, size)
                    os.pwrite(descriptor, header, 0)
                finally:
                    os.close(descriptor)
        return made

    def write(self, name: str, row: int, array: NDArray[np.uint8]) -> None:
        """Write the array of one sample, uint8 of the shape in the spec."""
        shape = self._spec.shapes[name]
        assert array.shape == shape and array.dtype == np.uint8, (name, array.shape, array.dtype)
        offset = len(array_header((self._rows, *shape))) + row * array.size
        rest = np.ascontiguousarray(array).reshape(-1).data
        with writing(self._root):
            descriptor = os.open(self._path(name), os.O_WRONLY)
            try:
                while rest:
                    count = os.pwrite(descriptor, rest, offset)
                    rest, offset = rest[count:], offset + count
            finally:
                os.close(descriptor)

    def readers(self) -> dict[str, ArrayReader]:
        """Open the files for reading, by array."""
        return {name: ArrayReader(self._path(name)) for name in self._spec.shapes}

    def finish(self, part: ShardPart, good: Sequence[int]) -> list[Path]:
        """Complete the metadata of the shard, whose good samples are in the slots `good`.

        Returns:
            The files with copies that lack the other slots; `save_part` puts the copies in place.
        """
        copied: list[Path] = []
        if not good:
            return copied
        for name, reader in self.readers().items():
            path = self._path(name)
            if len(good) == self._rows:
                facts = file_facts(path)
            else:
                copied.append(path)
                with writing(self._root):
                    facts = self._copy(name, reader, good, copy_of(path))
            part.files[name], part.contents[path.name] = path.name, facts
        return copied

    def _copy(
        self, name: str, reader: ArrayReader, good: Sequence[int], path: Path
    ) -> dict[str, object]:
        shape = self._spec.shapes[name]
        copy, row = ArrayFile(path, shape), np.empty(shape, np.uint8)
        for slot in good:
            reader.read_into(row, slot)
            copy.append(row)
        return copy.close()

    def _path(self, name: str) -> Path:
        return array_path(self._root, name, self._number)
