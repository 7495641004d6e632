"""Tiny frames in SUN-RGBD's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64


def encode(metres: np.ndarray) -> np.ndarray:
    """The dataset's 16-bit encoding: millimetres, bits rotated left by three."""
    millimetres = (1000 * metres).astype(np.uint16)
    return (millimetres << 3) | (millimetres >> 13)


def write_frame(root: Path, frame: str) -> None:
    rng = np.random.default_rng(0)
    folder = root / frame
    for part in ("image", "depth", "depth_bfx"):
        (folder / part).mkdir(parents=True)
    colour = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "image" / "0001.jpg")
    metres = np.tile(np.linspace(4, 2, HEIGHT)[:, None], (1, WIDTH))
    Image.fromarray(encode(metres)).save(folder / "depth_bfx" / "0001.png")
    metres[:8] = 0
    Image.fromarray(encode(metres)).save(folder / "depth" / "0001.png")
    (folder / "intrinsics.txt").write_text("50 0 32\n0 50 24\n0 0 1\n")


def write_lists(root: Path, test: list[str], train: list[str]) -> None:
    (root / "meta").mkdir(exist_ok=True)
    for name, frames in (("testing", test), ("training", train)):
        lines = [f"{frame}//image/0001.jpg\n" for frame in frames]  # as in the official lists
        (root / "meta" / f"sunrgbd_{name}_images.txt").write_text("".join(lines))


def write_label(root: Path, number: int, labels: np.ndarray) -> None:
    (root / "labels").mkdir(exist_ok=True)
    Image.fromarray(labels).save(root / "labels" / f"img-{number:06d}.png")
