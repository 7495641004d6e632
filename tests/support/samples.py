"""Small random samples, and damage to files."""

from pathlib import Path

import numpy as np

from decur.shards import Modality, Sample

MODALITIES = (Modality("sar", ("VV", "VH"), "none"), Modality("optical", ("R", "G", "B"), "none"))


def random_sample(i: int, split: str = "train", side: int = 20) -> Sample:
    """A sample whose factors show in its arrays, so that something can be learnt from it."""
    rng = np.random.default_rng(i)
    common, unique1, unique2 = (int(v) for v in rng.integers(0, 3, 3))
    sar = rng.integers(0, 60, (2, 2, side, side))
    optical = rng.integers(0, 60, (2, 3, side, side))
    sar[:, 0] += 60 * common
    optical[:, 0] += 60 * common
    sar[:, 1] += 60 * unique1
    optical[:, 1] += 60 * unique2
    mask = np.full((side, side), common, dtype=np.uint8)
    mask[: side // 2] = unique1
    return Sample(
        id=f"{i:04d}",
        split=split,
        arrays={"sar": sar.astype(np.uint8), "optical": optical.astype(np.uint8)},
        labels=np.eye(3, dtype=np.uint8)[common],
        mask=mask,
        source=f"sample-{i}",
        factors={"common": common, "unique1": unique1, "unique2": unique2},
    )


def flip_bit(path: Path, position: int) -> None:
    """Damage one byte of a file, counted from its start, or from its end if negative."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
