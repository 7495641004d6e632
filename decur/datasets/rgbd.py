"""Share modalities, label names and frame storage between the indoor RGB-depth datasets.

SUN-RGBD labels the first 37 of the 40 classes of NYUv2.
"""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.errors import DecurError
from decur.imagery.bands import resize
from decur.imagery.hha import depth_to_hha
from decur.imagery.images import check_labels, read_image
from decur.imagery.rasters import check_not_blank
from decur.shards import Modality

IGNORE = 255
GOLDEN_RATIO = 0.618033988749895

MODALITIES = (
    Modality("rgb", ("red", "green", "blue"), Scaling.stored()),
    Modality(
        "hha",
        ("disparity", "height", "angle"),
        Scaling.stored(
            "8 bits: 310 / depth in m; height above the lowest point in cm; 38 + degrees from "
            "gravity"
        ),
    ),
)

# fmt: off
CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refrigerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "other structure", "other furniture", "other prop",
)
# fmt: on


def spread_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` RGB colours (0..255) whose neighbours differ: hues a golden section apart."""
    colours = []
    for i in range(count):
        lightness, saturation = (0.45, 0.65, 0.3)[i % 3], (0.85, 0.6)[i % 2]
        rgb = colorsys.hls_to_rgb(i * GOLDEN_RATIO % 1, lightness, saturation)
        colours.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return tuple(colours)


def frame_arrays(
    rgb: NDArray[np.uint8],
    depth_m: NDArray[np.float32],
    intrinsics: NDArray[np.float64],
    pixels: int | tuple[int, int],
    source: Path,
    *,
    missing: NDArray[np.bool_] | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """Make a frame's stored arrays; HHA uses the native resolution, as it depends on the camera.

    Args:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) metres, in-painted.
        intrinsics: (3, 3) camera matrix of this frame, in pixels.
        pixels: side of the stored square, or height and width; the aspect ratio is not kept.
        source: the file to name in errors.
        missing: (H, W) bool, pixels that the sensor did not measure.

    Returns:
        rgb and hha, each uint8 `(1, 3, *pixels)`.

    Raises:
        DecurError: depth and colour differ in size, are blank, or are not valid depth and colour.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise DecurError(
            f"{source}: colour image is {rgb.dtype} {rgb.shape}, expected 3 bands of uint8"
        )
    check_not_blank(source, rgb)
    check_not_blank(source, depth_m)
    if rgb.shape[:2] != depth_m.shape:
        raise DecurError(
            f"{source}: depth is {depth_m.shape}, but its colour image is {rgb.shape[:2]}"
        )
    try:
        hha = depth_to_hha(depth_m, intrinsics, missing=missing)
    except DecurError as error:
        raise DecurError(f"{source}: {error}") from error
    stored = {"rgb": rgb, "hha": hha}
    return {name: resize(x.transpose(2, 0, 1), pixels)[None] for name, x in stored.items()}


def read_labels(path: Path | None, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the labels (H, W) of a frame of `shape`; all 0 if it is unlabelled.

    Raises:
        DecurError: the file is damaged or of another size.
    """
    if path is None:
        return np.zeros(shape, dtype=np.uint8)
    labels = read_image(path, labels=True)
    if labels.shape != shape:
        raise DecurError(f"{path}: labels are {labels.shape}, but their colour image is {shape}")
    return labels


def label_mask(
    labels: NDArray[Any], classes: Sequence[str], pixels: int | tuple[int, int], source: Path
) -> NDArray[np.uint8]:
    """Convert labels (H, W) to the stored mask `(*pixels)` uint8: i+1 becomes i, 0 `IGNORE`.

    Raises:
        DecurError: a label has no class.
    """
    check_labels(labels, len(classes), source)
    shifted = labels.astype(np.uint8) - np.uint8(1)  # 0 wraps around to 255 on purpose
    return resize(shifted, pixels, "nearest")
