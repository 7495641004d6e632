"""The file side of the datasets: rasters in, links out, errors that name the file."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from decur.config import DatasetSettings
from decur.datasets import Dataset
from decur.errors import DecurError

Array = NDArray[Any]

# A crop or a PNG has no place on the map and needs none.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

# Without this, opening a file lists its folder in search of side files.
GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


def read_bands(paths: Iterable[Path]) -> list[Array]:
    """The only band (H, W) of each file, opened once.

    Raises:
        DecurError: a file is missing, damaged, or has several bands.
    """
    with rasterio.Env(**GDAL):
        return [_read(path, bands=1)[0] for path in paths]


def read_band(path: Path) -> Array:
    """The only band (H, W) of a file; raises as `read_bands`."""
    return read_bands([path])[0]


def read_raster(path: Path, bands: int, cell: int = 1, grid: int = 1) -> Array:
    """All bands (C, H, W) of a file, or of one cell of it.

    Args:
        path: any raster that GDAL reads.
        bands: how many bands the file must have.
        cell: which cell, 1 to `grid`², row by row.
        grid: how many cells the image has along each side; remainders are an error.

    Raises:
        DecurError: the file is missing, damaged, has another number of bands, or is not divisible.
    """
    with rasterio.Env(**GDAL):
        return _read(path, bands, cell, grid)


def _read(path: Path, bands: int, cell: int = 1, grid: int = 1) -> Array:
    try:
        with rasterio.open(path) as file:
            if file.count != bands:
                raise DecurError(f"{path}: has {file.count} bands, expected {bands}")
            if file.height % grid or file.width % grid:
                raise DecurError(
                    f"{path}: {file.width} x {file.height} pixels cannot be cut into "
                    f"{grid} x {grid} patches"
                )
            row, column = divmod(cell - 1, grid)
            height, width = file.height // grid, file.width // grid
            window = Window(column * width, row * height, width, height)
            return file.read(window=window)
    except RasterioError as error:
        # rasterio's own message only points to GDAL's, which is its cause.
        reason = str(error.__cause__ or error) if path.is_file() else "no such file"
        reason = " ".join(reason.split())
        raise DecurError(f"{path}: cannot be read ({reason}); fetch the file again") from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's name before a DecurError of a function that knows only its pixels."""
    try:
        yield
    except DecurError as error:
        raise DecurError(f"{path}: {error}") from error


def check_square(path: Path, image: Array, side: int) -> None:
    """Raise a DecurError unless the last two axes of an image are `side` x `side` pixels."""
    height, width = image.shape[-2:]
    if (height, width) != (side, side):
        raise DecurError(
            f"{path}: {width} x {height} pixels, expected {side} x {side}; fetch the file again"
        )


def list_names(folder: Path) -> list[str]:
    """Sorted names in a folder of raw files, hidden ones left out.

    Raises:
        DecurError: there is no such folder.
    """
    if not folder.is_dir():
        raise DecurError(f"{folder}: no such folder; expected raw files in the official layout")
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


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

    Raises:
        DecurError: the dataset has no such modality.
    """
    known = [modality.name for modality in dataset.modalities]
    if settings.modalities is None:
        return tuple(known[:2])
    for name in settings.modalities:
        if name not in known:
            raise DecurError(
                f"datasets.{dataset.name}.modalities: no '{name}' (it has {', '.join(known)})"
            )
    return settings.modalities
