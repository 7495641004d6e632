"""What the dataset modules share about raw folders: lists, links, places, stored modalities."""

from pathlib import Path, PurePosixPath

import rasterio
from rasterio import Affine

from decur.config import DatasetSettings
from decur.datasets import Dataset
from decur.errors import DecurError
from decur.imagery.pixels import GDAL, opened
from decur.shards import Georeference


def georeference(path: Path, pixels: int, cell: int = 1, grid: int = 1) -> Georeference | None:
    """Where a cell of a file lies once it is stored as a square; None if the file does not say.

    Args:
        path: a GeoTIFF or JPEG 2000 file.
        pixels: side of the stored square.
        cell: which cell, 1 to `grid**2`, row by row.
        grid: how many cells the image has along each side.

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
    """Sorted names in a folder of raw files, hidden ones left out.

    Raises:
        DecurError: there is no such folder.
    """
    if not folder.is_dir():
        raise DecurError(f"{folder}: no such folder; expected raw files in the official layout")
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def below(root: Path, name: str, listed: Path) -> Path:
    """The path of what a list of the dataset names below `root`.

    Raises:
        DecurError: naming `listed`, if that leads out of `root`.
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
    """Names of the modalities to store: those of the settings, or the dataset's first two.

    All modalities of a user's own folders are stored.

    Raises:
        DecurError: the dataset has no such modality.
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
