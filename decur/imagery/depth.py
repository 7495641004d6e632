"""Decode stored depth into metres, and stored camera parameters into a camera matrix."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.errors import DecurError
from decur.imagery.source import read_bytes

# Colour camera of NYUv2 (calibration in the NYUv2 toolbox); the depth is aligned to it.
NYU_INTRINSICS = np.array(
    [[518.8579, 0.0, 325.5824], [0.0, 519.4696, 253.7362], [0.0, 0.0, 1.0]], np.float64
)
"""Camera matrix of NYU-Depth v2's colour images (640 x 480), to which its depth is aligned."""
FARTHEST = 8.0  # metres; the SUN-RGBD toolbox clips here


def nyu_intrinsics(width: int) -> NDArray[np.float64]:
    """Return the camera matrix (3, 3) of NYU-Depth v2 for an image resized to `width` columns."""
    return NYU_INTRINSICS * [[width / 640], [width / 640], [1]]


def decode_sun_depth(raw: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Decode a SUN-RGBD depth PNG into metres; 0 stays 0 and means no reading.

    The files hold millimetres with the bits rotated left by three (SUN-RGBD toolbox,
    read3dPoints).

    Args:
        raw: (H, W) uint16, as read from the file.

    Raises:
        DecurError: if `raw` is not 16-bit.
    """
    if raw.dtype != np.uint16:
        raise DecurError(f"depth: expected uint16, got {raw.dtype}; read the PNG with 16 bits")
    millimetres = (raw >> 3) | (raw << 13)
    return np.minimum(millimetres.astype(np.float32) / 1000, np.float32(FARTHEST))


def read_intrinsics(path: str | Path) -> NDArray[np.float64]:
    """Read the camera matrix (3, 3) of an `intrinsics.txt`: nine numbers, in one or three lines.

    Raises:
        DecurError: if the file is missing, does not contain nine numbers, or a focal length is not
            positive.
    """
    try:
        numbers = [float(word) for word in read_bytes(Path(path)).decode().split()]
    except OSError as error:
        raise DecurError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DecurError(f"{path}: expected nine numbers ({error})") from error
    if len(numbers) != 9:
        raise DecurError(f"{path}: expected nine numbers of a camera matrix, got {len(numbers)}")
    matrix = np.array(numbers).reshape(3, 3)
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise DecurError(
            f"{path}: focal lengths must be positive pixels, "
            f"got fx={matrix[0, 0]:g}, fy={matrix[1, 1]:g}"
        )
    return matrix
