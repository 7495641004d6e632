"""The command `decur embed`: compute features of files, into one file or a folder of GeoTIFFs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from tqdm import tqdm

from decur.artifacts.files import writing
from decur.embed.encoder import DEPTH, Encoder
from decur.embed.rasters import (
    BATCH,
    Windows,
    check_raster,
    choose_bands,
    feature_rows,
    read_bands,
    windows_of,
)
from decur.embed.write import (
    ImageTable,
    WindowTable,
    check_output,
    write_array,
    write_geotiff,
    write_parquet,
)
from decur.errors import DecurError
from decur.imagery.pixels import GDAL, opened
from decur.imagery.rasters import named

PLAIN = (".png", ".jpg", ".jpeg")
"""Files that are always embedded as a whole."""


def embed_images(
    encoder: Encoder, paths: Sequence[Path | str], *, batch: int = BATCH
) -> NDArray[np.float32]:
    """Compute features (n, d) of whole images, each resized to the encoder's window.

    Raises:
        DecurError: an image is unreadable, has other bands than the encoder, or pixels without
            data.
    """
    return np.concatenate(list(_image_batches(encoder, [Path(p) for p in paths], batch)))


def embed_files(
    encoder: Encoder,
    inputs: Sequence[Path],
    out: Path,
    *,
    stride: int | None = None,
    whole: bool = False,
    batch: int = BATCH,
) -> None:
    """Write features of rasters' windows, or of whole images, in the format of `out`'s suffix.

    `.parquet` takes any number of rasters or images. `.npy` takes the grid (rows, columns, d) of
    one raster, or (n, d) of images. `.tif` takes one raster. Without a suffix `out` becomes a
    folder with one GeoTIFF per raster. Existing features are replaced only after a complete write.

    Raises:
        DecurError: an input cannot be embedded, or not be written in this format, or a file that is
            not ours has the name of an output.
    """
    whole = whole or encoder.bands == DEPTH  # a camera matrix applies to complete images
    plain = [path for path in inputs if whole or path.suffix.lower() in PLAIN]
    if plain and len(plain) < len(inputs):
        raise DecurError(
            f"{plain[0]}: an image among rasters; embed them apart, or all with `--whole`"
        )
    if out.resolve() in {path.resolve() for path in inputs}:
        raise DecurError(f"--out {out}: is an input; choose another name")
    kind = out.suffix.lower()
    if kind not in ("", ".tif", ".parquet", ".npy"):
        raise DecurError(f"--out {out}: expected .tif, .parquet, .npy or a folder")
    outputs = [out] if kind else [out / f"{path.stem}.tif" for path in inputs]
    for output in outputs:
        check_output(output)
    with writing(out.parent):
        if plain:
            _write_images(encoder, plain, out, kind, batch)
        else:
            _write_rasters(encoder, inputs, out, kind, stride, batch)


def _write_images(
    encoder: Encoder, paths: Sequence[Path], out: Path, kind: str, batch: int
) -> None:
    if kind not in (".parquet", ".npy"):
        raise DecurError(f"--out {out}: whole images have no grid; use .parquet or .npy")
    batches = _image_batches(encoder, paths, batch, progress=True)
    if kind == ".npy":
        write_array(out, batches, (len(paths), encoder.backbone.feature_dim))
    else:
        write_parquet(out, ImageTable(paths), batches, encoder)


def _image_batches(
    encoder: Encoder, paths: Sequence[Path], batch: int, progress: bool = False
) -> Iterator[NDArray[np.float32]]:
    silent = None if progress else True
    with tqdm(total=len(paths), desc="images", disable=silent) as bar:
        for start in range(0, len(paths), batch):
            chosen = paths[start : start + batch]
            images = []
            for path in chosen:  # scaled one by one, so that an error names the file
                image = _whole(encoder, path)
                with named(path):
                    images.append(encoder.stored(image))
            yield encoder.features(images)
            bar.update(len(chosen))


def _whole(encoder: Encoder, path: Path) -> NDArray[Any]:
    with rasterio.Env(**GDAL), opened(path) as file:
        order = choose_bands(encoder, path, file)
        check_raster(encoder, path, file, order)
        image, valid = read_bands(encoder, path, file, order)
    if not valid.all():
        raise DecurError(f"{path}: has pixels without data; embed it by windows, or fill them")
    return image


def _write_rasters(
    encoder: Encoder,
    paths: Sequence[Path],
    out: Path,
    kind: str,
    stride: int | None,
    batch: int,
) -> None:
    if kind in (".tif", ".npy") and len(paths) > 1:
        raise DecurError(
            f"--out {out}: {len(paths)} rasters have one grid each; use a folder or .parquet"
        )
    if kind == "" and len({path.stem for path in paths}) < len(paths):
        raise DecurError(f"--out {out}: two rasters have the same name; use .parquet")
    all_windows = [windows_of(encoder, path, stride) for path in paths]
    total = sum(windows.shape[0] * windows.shape[1] for windows in all_windows)
    dims = encoder.backbone.feature_dim
    with tqdm(total=total, desc="windows", disable=None) as bar:

        def rows(path: Path, windows: Windows) -> Iterator[NDArray[np.float32]]:
            for row in feature_rows(encoder, path, windows, batch=batch):
                yield row
                bar.update(len(row))

        if kind == ".parquet":
            pairs = zip(paths, all_windows, strict=True)
            found = (row for path, windows in pairs for row in rows(path, windows))
            write_parquet(out, WindowTable(paths, all_windows), found, encoder)
            return
        for path, windows in zip(paths, all_windows, strict=True):
            if kind == ".npy":
                grid = (row[None] for row in rows(path, windows))
                write_array(out, grid, (*windows.shape, dims))
            else:
                target = out if kind else out / f"{path.stem}.tif"
                write_geotiff(target, rows(path, windows), windows, encoder)
