"""Access raw folders, for all dataset modules: files, links, places, stored modalities."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import rasterio
from rasterio import Affine

from decur.config import DatasetSettings
from decur.datasets import Dataset
from decur.datasets.listing import LISTING, Listing
from decur.errors import DecurError
from decur.imagery.pixels import GDAL, opened
from decur.imagery.source import names_in
from decur.shards import Georeference


class RawFiles(Protocol):
    """Declare the access that a scan has to a raw folder, with archives unpacked or not."""

    def names(self, folder: Path) -> list[str]:
        """List the sorted, unhidden names in a folder; raises a DecurError if it is missing."""

    def walk(self, folder: Path) -> Iterator[Path]:
        """Iterate over all files in a folder and below, in any order."""

    def is_file(self, path: Path) -> bool:
        """Return whether a file exists."""

    def is_folder(self, path: Path) -> bool:
        """Return whether a folder exists."""

    def read(self, path: Path) -> bytes:
        """Read a file; raises an OSError if it is missing.

        In archives, only the members that the archive's `scanned` selects can be read.
        """


class UnpackedFiles:
    """Access a raw folder on disk."""

    def names(self, folder: Path) -> list[str]:
        """See `RawFiles`."""
        return list_names(folder)

    def walk(self, folder: Path) -> Iterator[Path]:
        """See `RawFiles`."""
        for place, below, names in os.walk(folder, followlinks=True):  # folders may be links
            below.sort()
            yield from (Path(place, name) for name in names)

    def is_file(self, path: Path) -> bool:
        """See `RawFiles`."""
        return path.is_file()

    def is_folder(self, path: Path) -> bool:
        """See `RawFiles`."""
        return path.is_dir()

    def read(self, path: Path) -> bytes:
        """See `RawFiles`."""
        return path.read_bytes()


class ArchivedFiles:
    """Access a raw folder whose archives are listed in it; a few other files are on disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listing = Listing(root / LISTING)

    def names(self, folder: Path) -> list[str]:
        """See `RawFiles`."""
        found = self._listing.names(self._inside(folder))
        if found is None:
            return list_names(folder)
        return [name for name in found if not name.startswith(".")]

    def walk(self, folder: Path) -> Iterator[Path]:
        """See `RawFiles`."""
        return (self._root / path for path in self._listing.walk(self._inside(folder)))

    def is_file(self, path: Path) -> bool:
        """See `RawFiles`."""
        return self._listing.has(self._inside(path)) or path.is_file()

    def is_folder(self, path: Path) -> bool:
        """See `RawFiles`."""
        return self._listing.names(self._inside(path)) is not None or path.is_dir()

    def read(self, path: Path) -> bytes:
        """See `RawFiles`."""
        content = self._listing.content(self._inside(path))
        return path.read_bytes() if content is None else content

    def count(self, path: Path) -> int:
        """Count the members that are this file, or lie in this folder and below."""
        return self._listing.count(self._inside(path))

    def archive(self, path: Path) -> str | None:
        """Return the name of the archive, or of its first part, with this file or folder."""
        return self._listing.archive(self._inside(path))

    def _inside(self, path: Path) -> PurePosixPath:
        return PurePosixPath(path.relative_to(self._root))


def is_archived(root: Path) -> bool:
    """Return whether the archives of a raw folder were listed rather than unpacked."""
    return (root / LISTING).is_file()


def raw_files(root: Path) -> RawFiles:
    """Return the access to a raw folder."""
    return ArchivedFiles(root) if is_archived(root) else UnpackedFiles()


def georeference(path: Path, pixels: int, cell: int = 1, grid: int = 1) -> Georeference | None:
    """Compute where a cell of a file lies once it is stored as a square; None without georeference.

    Args:
        path: a GeoTIFF or JPEG 2000 file.
        pixels: side of the stored square.
        cell: number of the cell, 1 to `grid**2`, row by row.
        grid: number of cells along each side.

    Raises:
        DecurError: the file is missing or damaged.
    """
    with rasterio.Env(**GDAL), opened(path) as file:
        crs, whole = file.crs, file.transform @ Affine.scale(file.width, file.height)
    if crs is None:
        return None
    row, column = divmod(cell - 1, grid)
    stored = whole @ Affine.translation(column / grid, row / grid) @ Affine.scale(1 / grid / pixels)
    return Georeference(crs.to_string(), tuple(stored)[:6])


def list_names(folder: Path) -> list[str]:
    """List the names in a folder of raw files, sorted, without hidden ones.

    Raises:
        DecurError: the folder does not exist.
    """
    try:
        found = names_in(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        expected = "expected raw files in the official layout"
        raise DecurError(f"{folder}: no such folder; {expected}") from error
    return sorted(name for name in found if not name.startswith("."))


def below(root: Path, name: str, listed: Path) -> Path:
    """Return the path below `root` for a name in a list of the dataset.

    Raises:
        DecurError: the path leads out of `root`; the error names `listed`.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise DecurError(f"{listed}: '{name}' leads out of {root}; fetch the list again")
    return root.joinpath(*parts)


def link(source: Path, target: Path) -> None:
    """Make `target` a link to `source`, replacing an older link.

    Raises:
        DecurError: `source` does not exist, or `target` is a real file or folder.
    """
    if not source.exists():
        raise DecurError(f"{source}: not found; check the folder of the sample frames")
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise DecurError(f"{target}: is not a link; remove it to lay out the sample frames")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def stored_modalities(dataset: Dataset, settings: DatasetSettings) -> tuple[str, ...]:
    """Return the names of the modalities to store: those in the settings, or the first two.

    All modalities of a user's own folders are stored.

    Raises:
        DecurError: the dataset does not have a modality.
    """
    known = [modality.name for modality in dataset.modalities]
    if settings.modalities is None:
        return tuple(known if settings.folders else known[:2])
    for name in settings.modalities:
        if name not in known:
            raise DecurError(
                f"datasets.{dataset.name}.modalities: no '{name}' (it has {', '.join(known)})"
            )
    return settings.modalities
