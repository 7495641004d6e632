"""Encode a depth image as HHA, three channels for a network: disparity, height, angle.

Source: Gupta et al., "Learning rich features from RGB-D images", ECCV 2014, with the constants of
their released code. The paper encodes SUN-RGBD this way (appendix B, RGB-depth pretraining). Most
of the time goes into fitting a plane to a window around every pixel. Here the windows of all radii
are read from one summed-area table. Its position moments are integers, so they are exact.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from decur.errors import DecurError

NORMAL_RADIUS = 3  # pixels
GRAVITY_RADIUS = 10
RADII_IN_IMAGE = 16  # a radius is at most 1/16 of the shorter side; this matters for thumbnails
GRAVITY_THRESHOLDS = (45.0, 15.0)  # degrees
GRAVITY_ITERATIONS = 5  # at each threshold
NO_READING = 0.001  # m; less than any sensor's step
NEAREST = 100.0  # cm; closer points get the disparity of this depth
LOWEST_FLOOR = -90.0  # cm; a lowest point above this is assumed to be furniture, not the floor,
ASSUMED_FLOOR = -130.0  # cm; and the floor is placed here, below the camera
NO_PLANE = 180.0  # degrees; the angle where too few valid pixels exist to fit a plane

STRIP = 32  # rows solved at a time, so that the temporaries fit in the cache
SCATTER_OF_A_LINE = 0.25  # below this determinant the pixels of a window lie on one line

Floats = NDArray[np.floating]


def depth_to_hha(
    depth_m: Floats, intrinsics: Floats, *, missing: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Encode depth as disparity, height above the floor, and angle with gravity.

    Args:
        depth_m: (H, W) float, metres along the optical axis. Fill its holes first, because
            disparity and height use every pixel. Values below 1 mm count as missing.
        intrinsics: (3, 3) camera matrix in pixels; the first pixel is (1, 1) as in MATLAB.
        missing: (H, W) bool, the pixels without a sensor reading, which the plane fits skip. None
            uses every pixel, which suits depth whose holes were filled carefully.

    Returns:
        (H, W, 3) uint8: 310 / depth (depth at least 1 m), centimetres above the lowest point, and
        38 + degrees between surface normal and gravity (floor 38, wall 128, ceiling 218).

    Raises:
        DecurError: for arrays of the wrong shape or type, values that cannot be depths, or focal
            lengths that are not positive.
    """
    _check(depth_m, intrinsics, missing)
    valid = depth_m >= NO_READING
    if missing is not None:
        valid &= ~missing
    largest = max(1, min(depth_m.shape) // RADII_IN_IMAGE)
    table = _moment_table(depth_m, valid)
    gravity = _gravity(_normals(table, intrinsics, min(GRAVITY_RADIUS, largest)))
    normals = _normals(table, intrinsics, min(NORMAL_RADIUS, largest))
    x, y = _rays(intrinsics, depth_m.shape)
    height = -100 * depth_m * (gravity[0] * x + (gravity[1] * y + gravity[2])[:, None])
    lowest = height.min()
    floor = lowest if lowest <= LOWEST_FLOOR else ASSUMED_FLOOR

    hha = np.empty((*depth_m.shape, 3), np.uint8)
    hha[..., 0] = np.rint(np.minimum(31000 / np.maximum(100 * depth_m, NEAREST), 255))
    hha[..., 1] = np.rint(np.clip(height - floor, 0, 255))
    hha[..., 2] = np.rint(_angle(normals, gravity) + 128 - 90)
    return hha


def _check(depth_m: Floats, intrinsics: Floats, missing: NDArray[np.bool_] | None) -> None:
    if depth_m.ndim != 2 or depth_m.size == 0:
        raise DecurError(f"depth: expected an image (H, W), got shape {depth_m.shape}")
    if not np.issubdtype(depth_m.dtype, np.floating):
        raise DecurError(
            f"depth: expected float metres, got {depth_m.dtype}; decode the file first"
        )
    bad = depth_m.size - np.count_nonzero((depth_m >= 0) & (depth_m < np.inf))
    if bad:
        raise DecurError(
            f"depth: {bad} of {depth_m.size} pixels are negative or not finite; "
            "set those without a reading to 0"
        )
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise DecurError(f"intrinsics: expected a finite (3, 3) matrix, got {intrinsics.tolist()}")
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise DecurError(
            "intrinsics: focal lengths must be positive pixels, "
            f"got fx={intrinsics[0, 0]:g}, fy={intrinsics[1, 1]:g}"
        )
    if missing is not None and (missing.shape != depth_m.shape or missing.dtype != bool):
        raise DecurError(
            f"missing: expected a bool mask {depth_m.shape}, got {missing.dtype} {missing.shape}"
        )


def _rays(intrinsics: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Compute the rays (x, y, 1) of the pixels: x (W,) per column, y (H,) per row."""
    rows, columns = shape
    x = (np.arange(1, columns + 1) - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(1, rows + 1) - intrinsics[1, 2]) / intrinsics[1, 1]
    return x, y


def _moment_table(depth_m: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Build a summed-area table of moments of the valid pixels and of their inverse depth q.

    Returns (H + 2R + 1, 9, W + 2R + 1) float64, where R is the gravity radius. The middle axis is
    1, i, j, ii, ij, jj, q, iq, jq, where i and j are pixels from the image centre. The margin of R
    makes every window sum a difference of four slices, clipped at the image border.
    """
    rows, columns = depth_m.shape
    margin = GRAVITY_RADIUS
    table = np.zeros((rows + 2 * margin + 1, 9, columns + 2 * margin + 1))
    inside = table[margin + 1 : margin + 1 + rows, :, margin + 1 : margin + 1 + columns]
    one, i, j, ii, ij, jj, q, iq, jq = inside.swapaxes(0, 1)
    column = np.arange(columns, dtype=float) - columns // 2
    row = np.arange(rows, dtype=float)[:, None] - rows // 2
    one[:] = valid
    np.divide(1, depth_m, out=q, where=valid)
    for base, times_i, times_j in ((one, i, j), (q, iq, jq)):
        np.multiply(base, column, out=times_i)
        np.multiply(base, row, out=times_j)
    np.multiply(i, column, out=ii)
    np.multiply(i, row, out=ij)
    np.multiply(j, row, out=jj)
    for above, below in pairwise(table):  # np.cumsum over the first axis takes 7 times as long
        below += above
    return np.cumsum(table, axis=2, out=table)


def _normals(table: Floats, intrinsics: Floats, radius: int) -> NDArray[np.float32]:
    """Fit planes to windows of 2 radius + 1 pixels and return their unit normals (3, H, W).

    A plane in space is linear in the image: q = a x + b y + c along the rays (x, y, 1), and its
    normal is (a, b, c). The normals point away from the camera. They are zero where the valid
    pixels of the window lie on one line.
    """
    margin = GRAVITY_RADIUS
    rows, columns = table.shape[0] - 2 * margin - 1, table.shape[2] - 2 * margin - 1
    fx, fy = intrinsics[0, 0], intrinsics[1, 1]
    x, y = _rays(intrinsics, (rows, columns))
    left, right = margin - radius, margin + radius + 1
    normals = np.empty((3, rows, columns), np.float32)
    for start in range(0, rows, STRIP):
        stop = min(start + STRIP, rows)
        sums = table[start + right : stop + right] - table[start + left : stop + left]
        sums = sums[:, :, right : right + columns] - sums[:, :, left : left + columns]
        n, i, j, ii, ij, jj, q, iq, jq = sums.swapaxes(0, 1)
        np.maximum(n, 1, out=n)
        mean_i, mean_j, mean_q = i / n, j / n, q / n
        ii, ij, jj = ii - i * mean_i, ij - i * mean_j, jj - j * mean_j
        iq, jq = iq - i * mean_q, jq - j * mean_q
        scatter = ii * jj - ij * ij
        plane = scatter > SCATTER_OF_A_LINE
        np.maximum(scatter, SCATTER_OF_A_LINE, out=scatter)
        a = (jj * iq - ij * jq) / scatter * fx
        b = (ii * jq - ij * iq) / scatter * fy
        c = mean_q - a * (mean_i / fx + x[columns // 2]) - b * (mean_j / fy + y[rows // 2])
        scale = plane / np.maximum(np.sqrt(a * a + b * b + c * c), np.finfo(float).tiny)
        scale = np.copysign(scale, a * x + b * y[start:stop, None] + c)
        for normal, component in zip(normals, (a, b, c), strict=True):
            np.multiply(component, scale, out=normal[start:stop], casting="same_kind")
    return normals


def _gravity(normals: NDArray[np.float32]) -> Floats:
    """Estimate gravity (3,): most parallel to the normals of floors, perpendicular to walls'.

    Starts from the camera's down axis and alternates two steps: select floors and walls by their
    angle to the last direction, and take the smallest eigenvector of their scatter.
    """
    n = normals.reshape(3, -1)
    upper = np.triu_indices(3)
    products = np.stack([n[k] * n[m] for k, m in zip(*upper, strict=True)])
    gravity = np.array([0.0, 1.0, 0.0])
    for threshold in np.radians(GRAVITY_THRESHOLDS):
        for _ in range(GRAVITY_ITERATIONS):
            along = np.abs(gravity.astype(np.float32) @ n)
            walls, floors = along < np.sin(threshold), along > np.cos(threshold)
            scatter = np.zeros((3, 3))
            scatter[upper] = products @ (walls.astype(np.float32) - floors)
            values, vectors = np.linalg.eigh(scatter, UPLO="U")
            # With a single wall, several directions are equally good: keep the nearest to the last.
            least = vectors[:, values <= values[0] + 1e-5 * n.shape[1]]
            nearest = least @ (gravity @ least)
            length = np.linalg.norm(nearest)
            if length == 0 or np.array_equal(nearest / length, gravity):
                break
            gravity = nearest / length
    return gravity


def _angle(normals: NDArray[np.float32], gravity: Floats) -> Floats:
    """Compute the angle (H, W) between normals and gravity, in degrees."""
    cosine = np.tensordot(gravity.astype(np.float32), normals, 1)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    angle[~normals.any(axis=0)] = NO_PLANE
    return angle
