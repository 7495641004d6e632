"""Read a `.npy` file row by row.

Plain reads are used rather than a memory map, because SLURM may count the pages of a map as memory
of the process and kill the job.
"""

import errno
import math
import os
import resource
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.files import read_patiently
from decur.errors import DecurError

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class ArrayReader:
    """Read an open `.npy` file of uint8 in C order; several threads may read at the same time.

    Raises:
        DecurError: the file cannot be read, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = read_patiently(path, _open)
        weakref.finalize(self, os.close, self._descriptor)
        self.shape, self._start = read_patiently(path, self._read_header)

    def __len__(self) -> int:
        return self.shape[0]

    def read_into(self, out: NDArray[np.uint8], *index: int) -> None:
        """Read the part at `index` (row, or row and season) into an array of the same shape."""
        size = math.prod(self.shape[len(index) :])
        number = 0
        for position, length in zip(index, self.shape, strict=False):
            number = number * length + position
        read_patiently(self.path, lambda _: self._fill(out, self._start + number * size))

    def _fill(self, out: NDArray[np.uint8], offset: int) -> None:
        rest = out.reshape(-1).data
        while rest:
            count = os.preadv(self._descriptor, [rest], offset)
            if not count:
                raise _damaged(self.path, "ends early")
            rest, offset = rest[count:], offset + count

    def _read_header(self, path: Path) -> tuple[tuple[int, ...], int]:
        with open(self._descriptor, "rb", closefd=False) as file:
            try:
                file.seek(0)
                shape, columns_first, dtype = HEADERS[np.lib.format.read_magic(file)](file)
            except (KeyError, ValueError) as error:
                raise _damaged(path, f"no array header: {error}") from error
            start = file.tell()
            if columns_first or dtype != np.uint8:
                raise _damaged(path, f"contains {dtype}, not rows of uint8")
            if file.seek(0, os.SEEK_END) < start + math.prod(shape):
                raise _damaged(path, "ends early")
        return shape, start


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise _damaged(path, "not found") from None
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    # A dataset of terabytes has more shards than the usual soft limit on open files.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return os.open(path, os.O_RDONLY)


def _damaged(path: Path, reason: str) -> DecurError:
    return DecurError(
        f"{path}: unreadable ({reason}); delete it and run the preprocess stage again"
    )
