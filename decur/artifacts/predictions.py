"""Predicted class maps beside the metrics: one image file per evaluation sample."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from decur.errors import DecurError

PREDICTIONS = "predictions"
"""Name of the folder of predictions, beside `metrics.json`."""


def map_path(folder: Path, sample: str, *, on_ground: bool) -> Path:
    """The file of a sample's class map: GeoTIFF if the sample is georeferenced, else PNG.

    Characters of the sample's id that no file name may hold are spelt as in `%2F`.
    """
    return folder / f"{quote(sample, safe='')}.{'tif' if on_ground else 'png'}"


def read_map(folder: Path, sample: str, *, on_ground: bool) -> NDArray[np.uint8] | None:
    """The class map (H, W) of a sample; None where there is none.

    Raises:
        DecurError: the file is damaged.
    """
    path = map_path(folder, sample, on_ground=on_ground)
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return np.array(image)
    except Exception as error:  # Pillow's decoders raise many kinds for a damaged file
        raise DecurError(
            f"{path}: is not a readable class map; delete it and run the transfer stage again"
        ) from error
