"""Time `depth_to_hha` against a plain numpy transcription of the published algorithm.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_hha.py

prints a Markdown table. The frame is the NYUv2 frame under DECUR_SAMPLES if that is set, else a
synthetic room with sensor noise, both 480 x 640.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core; read when numpy loads

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import convolve2d

from decur.imagery.depth import NYU_INTRINSICS
from decur.imagery.hha import depth_to_hha

Floats = NDArray[np.floating]


def plain_hha(depth_m: Floats, intrinsics: Floats) -> NDArray[np.uint8]:
    """The published steps one after the other, whole arrays in float64, windows by convolution."""
    depth = 100 * depth_m
    row, column = np.indices(depth.shape) + 1
    ray = np.stack(
        [
            (column - intrinsics[0, 2]) / intrinsics[0, 0],
            (row - intrinsics[1, 2]) / intrinsics[1, 1],
            np.ones(depth.shape),
        ],
        axis=-1,
    )
    points = ray * depth[..., None]
    normals = plain_normals(points, radius=3)
    gravity = plain_gravity(plain_normals(points, radius=10))
    height = -points @ gravity
    lowest = height.min()
    height -= lowest if lowest <= -90 else -130
    angle = np.degrees(np.arccos(np.clip(normals @ gravity, -1, 1)))
    hha = np.stack([31000 / np.maximum(depth, 100), height, angle + 128 - 90], axis=-1)
    return np.rint(np.clip(hha, 0, 255)).astype(np.uint8)


def plain_normals(points: Floats, *, radius: int) -> Floats:
    """Normal equations of n . p / z = 1 / z summed over windows, solved by the adjugate."""
    x, y, z = np.moveaxis(points, -1, 0)
    ray = np.stack([x / z, y / z, np.ones(z.shape)])
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    window = np.ones((2 * radius + 1, 2 * radius + 1))
    terms = [ray[i] * ray[j] for i, j in pairs] + [component / z for component in ray]
    xx, xy, xz, yy, yz, zz, bx, by, bz = (convolve2d(term, window, "same") for term in terms)
    adjugate = [
        [yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy],
        [xz * yz - xy * zz, xx * zz - xz * xz, xy * xz - xx * yz],
        [xy * yz - xz * yy, xy * xz - xx * yz, xx * yy - xy * xy],
    ]
    normals = np.stack([p * bx + q * by + r * bz for p, q, r in adjugate], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals * np.where((normals * points).sum(-1, keepdims=True) < 0, -1, 1)


def plain_gravity(normals: Floats) -> Floats:
    """Five iterations at 45 degrees and five at 15, from the camera's down."""
    flat = normals.reshape(-1, 3)
    gravity = np.array([0.0, 1.0, 0.0])
    for threshold in np.radians([45] * 5 + [15] * 5):
        along = np.abs(flat @ gravity)
        floors, walls = flat[along > np.cos(threshold)], flat[along < np.sin(threshold)]
        _, vectors = np.linalg.eigh(walls.T @ walls - floors.T @ floors)
        gravity = vectors[:, 0] * np.sign(vectors[:, 0] @ gravity)
    return gravity


def frame() -> tuple[str, Floats]:
    """A name and a depth image (480, 640) in metres."""
    if samples := os.environ.get("DECUR_SAMPLES"):
        path = Path(samples) / "NYUDv2" / "Depth2HHA_demo" / "0.png"
        return "NYUv2 frame", np.array(Image.open(path)) / 1e4
    row, column = np.indices((480, 640))
    x = (column + 1 - NYU_INTRINSICS[0, 2]) / NYU_INTRINSICS[0, 0]
    y = (row + 1 - NYU_INTRINSICS[1, 2]) / NYU_INTRINSICS[1, 1]
    inverse = np.maximum.reduce([y / 1.2, -y / 1.4, np.abs(x) / 2, np.full(x.shape, 1 / 4)])
    noise = np.random.default_rng(0).normal(scale=0.002, size=x.shape)
    return "synthetic room", 1 / (inverse + noise)


def seconds(encode: Callable[[], NDArray[np.uint8]], repeats: int) -> float:
    """The fastest of several runs, after one that warms up."""
    encode()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        encode()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    name, depth = frame()
    plain = seconds(lambda: plain_hha(depth, NYU_INTRINSICS), repeats=3)
    ours = seconds(lambda: depth_to_hha(depth, NYU_INTRINSICS), repeats=10)
    levels = np.abs(
        depth_to_hha(depth, NYU_INTRINSICS).astype(int) - plain_hha(depth, NYU_INTRINSICS)
    ).max(axis=2)
    print(f"{name}, 480 x 640, one core; {(levels <= 1).mean():.3%} of pixels within 1 level\n")
    print("| implementation | seconds a frame | speed-up |")
    print("|---|---:|---:|")
    print(f"| plain transcription (convolutions) | {plain:.3f} | 1.0 |")
    print(f"| decur.imagery.hha | {ours:.3f} | {plain / ours:.1f} |")


if __name__ == "__main__":
    main()
