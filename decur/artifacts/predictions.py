"""Store the predicted class maps beside the metrics: one image file per evaluation sample."""

from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from decur.errors import DecurError

PREDICTIONS = "predictions"
"""Name of the folder of predicted class maps, beside `metrics.json`."""


def map_path(folder: Path, sample: str, *, on_ground: bool) -> Path:
    """Return the file of a sample's class map: GeoTIFF if it is georeferenced, otherwise PNG.

    Characters of the sample's id that are not allowed in file names are escaped, as in `%2F`.
    """
    return folder / f"{quote(sample, safe='')}.{'tif' if on_ground else 'png'}"


def read_map(folder: Path, sample: str, *, on_ground: bool) -> NDArray[np.uint8] | None:
    """Read the class map (H, W) of a sample; return None if there is no file.

    Raises:
        DecurError: the file is damaged.
    """
    path = map_path(folder, sample, on_ground=on_ground)
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return np.array(image)
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        raise DecurError(
            f"{path}: is not a readable class map; delete it and run the transfer stage again"
        ) from error
