"""Features as files, written row by row and whole or not at all."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from decur.embed.encoder import Encoder
from decur.embed.rasters import Windows
from decur.files import write_atomically
from decur.provenance import file_checksum

Floats = NDArray[np.float32]
BLOCK = 64
"""Cells of a GeoTIFF's tile, a multiple of 16 as the format wants."""


def origin(encoder: Encoder) -> dict[str, Any]:
    """What the features are of, for the head of a file."""
    checksum = file_checksum(Path(encoder.source))
    return {"weights": checksum, "modality": encoder.modality, "window": encoder.window}


def write_array(path: Path, parts: Iterable[Floats], shape: tuple[int, ...]) -> None:
    """Write a `.npy` file of a shape, whose first axis the parts fill one after the other."""

    def write(temporary: Path) -> None:
        _fill(temporary, parts, shape)

    write_atomically(path, write)


def _fill(path: Path, parts: Iterable[Floats], shape: tuple[int, ...]) -> Floats:
    array: Floats = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    done = 0
    for part in parts:
        array[done : done + len(part)] = part
        done += len(part)
    array.flush()  # type: ignore[attr-defined]
    return array


def write_geotiff(path: Path, rows: Iterable[Floats], windows: Windows, encoder: Encoder) -> None:
    """Write a grid of features, a band a feature; NaN is no data."""
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
        # Rows come window by window and tiles go band by band: what is between lies on disk.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            parts = (row[None] for row in rows)
            grid = _fill(Path(folder) / "grid.npy", parts, (height, width, dims))
            with rasterio.open(temporary, "w", **profile) as file:
                file.update_tags(decur=json.dumps(origin(encoder)))
                for top in range(0, height, BLOCK):
                    part = grid[top : top + BLOCK].transpose(2, 0, 1)
                    file.write(part, window=Window(0, top, width, part.shape[1]))

    write_atomically(path, write)


@dataclass(frozen=True)
class ImageTable:
    """The columns beside the features of whole images."""

    paths: Sequence[Path]

    fields = (pa.field("file", pa.string()),)

    def lines(self) -> Iterator[dict[str, Any]]:
        """One an image."""
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
        """One a window, row by row."""
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
    """Write a line an image or window, with its features in the column `features`."""
    vector = pa.list_(pa.float32(), encoder.backbone.feature_dim)
    schema = pa.schema([*table.fields, pa.field("features", vector)])
    schema = schema.with_metadata({"decur": json.dumps(origin(encoder))})

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

    write_atomically(path, write)
