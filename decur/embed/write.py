"""Write features to files row by row, replacing existing files only after a complete write."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from decur.artifacts.files import file_checksum, remove_left_over, temporary_of, write_all
from decur.artifacts.ownership import check_ours, is_recorded, write_ours
from decur.embed.encoder import Encoder
from decur.embed.rasters import Windows

Floats = NDArray[np.float32]
BLOCK = 64
"""Side of a GeoTIFF's tile in cells; the format requires a multiple of 16."""

TAG = "decur"
"""Name of the entry in a GeoTIFF or Parquet file that holds the origin of its features."""


def origin(encoder: Encoder) -> dict[str, Any]:
    """Describe the origin of features for the header of a file."""
    checksum = file_checksum(Path(encoder.source))
    return {"weights": checksum, "modality": encoder.modality, "window": encoder.window}


def check_output(path: Path) -> None:
    """Refuse to replace a file that does not contain features of ours.

    Raises:
        DecurError: it exists and is not ours.
    """
    check_ours(path, OURS[path.suffix.lower()])


def _is_our_geotiff(path: Path) -> bool:
    try:
        with rasterio.open(path, driver="GTiff") as file:  # others may open other files
            return TAG in file.tags()
    except (rasterio.errors.RasterioError, OSError):
        return False


def _is_our_parquet(path: Path) -> bool:
    try:
        return TAG.encode() in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


OURS = {".tif": _is_our_geotiff, ".parquet": _is_our_parquet, ".npy": is_recorded}
"""Recognise a file of ours by its content, per suffix; `.npy` has no place for an origin."""


def write_array(path: Path, parts: Iterable[Floats], shape: tuple[int, ...]) -> None:
    """Write a `.npy` file of a given shape; the parts fill its first axis one after the other."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}

    def write(temporary: Path) -> None:
        with temporary.open("wb", buffering=0) as file:
            np.lib.format.write_array_header_1_0(file, header)
            _append(file, parts)

    write_ours(path, write)


def _append(file: BinaryIO, parts: Iterable[Floats]) -> None:
    """Append parts with plain writes: pages of a memory map would count as memory of the job."""
    for part in parts:
        write_all(file, np.ascontiguousarray(part, dtype="<f4"))


def write_geotiff(path: Path, rows: Iterable[Floats], windows: Windows, encoder: Encoder) -> None:
    """Write a grid of features with one band per feature; NaN is no data."""
    height, width = windows.shape
    dims = encoder.backbone.feature_dim
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": dims,
        "dtype": "float32",
        "nodata": np.nan,
        "crs": windows.crs,
        "transform": windows.grid,
        "compress": "deflate",
        "predictor": 3,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "band",
        "bigtiff": "if_safer",
    }

    def write(temporary: Path) -> None:
        # Rows come window by window, tiles are written band by band: a file on disk is the buffer.
        between = path.with_name(f"{path.name}.grid")
        remove_left_over(between)
        grid = temporary_of(between)
        try:
            with grid.open("w+b") as cells:
                _append(cells, rows)
                cells.seek(0)
                with rasterio.open(temporary, "w", **profile) as file:
                    file.update_tags(**{TAG: json.dumps(origin(encoder))})
                    for top in range(0, height, BLOCK):
                        cell_count = min(BLOCK, height - top) * width
                        part = np.fromfile(cells, "<f4", cell_count * dims)
                        part = part.reshape(-1, width, dims).transpose(2, 0, 1)
                        file.write(part, window=Window(0, top, width, part.shape[1]))
        finally:
            grid.unlink(missing_ok=True)

    write_ours(path, write, _is_our_geotiff)


@dataclass(frozen=True)
class ImageTable:
    """The columns beside the features of whole images."""

    paths: Sequence[Path]

    fields = (pa.field("file", pa.string()),)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield one line per image."""
        yield from ({"file": str(path)} for path in self.paths)


@dataclass(frozen=True)
class WindowTable:
    """The columns beside the features of windows: upper left pixel, and centre on the ground."""

    paths: Sequence[Path]
    windows: Sequence[Windows]

    fields = (
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("col", pa.int64()),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),
        pa.field("crs", pa.string()),
    )

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield one line per window, row by row."""
        for path, windows in zip(self.paths, self.windows, strict=True):
            for row, column in np.ndindex(*windows.shape):
                top, left = windows.corner(row, column)
                x, y = windows.centre(row, column)
                yield {
                    "file": str(path),
                    "row": top,
                    "col": left,
                    "x": x,
                    "y": y,
                    "crs": windows.crs,
                }


def write_parquet(
    path: Path, table: ImageTable | WindowTable, parts: Iterable[Floats], encoder: Encoder
) -> None:
    """Write one line per image or window, with its features in the column `features`."""
    vector = pa.list_(pa.float32(), encoder.backbone.feature_dim)
    schema = pa.schema([*table.fields, pa.field("features", vector)])
    schema = schema.with_metadata({TAG: json.dumps(origin(encoder))})

    def write(temporary: Path) -> None:
        lines = table.lines()
        with pq.ParquetWriter(temporary, schema) as file:
            for part in parts:
                known = pa.Table.from_pylist(
                    [next(lines) for _ in part], schema=pa.schema(table.fields)
                )
                features = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
                columns = [*known.columns, features]
                file.write_table(pa.Table.from_arrays(columns, schema=schema))

    write_ours(path, write, _is_our_parquet)
