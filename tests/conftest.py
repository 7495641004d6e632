"""What tests share: small shards in memory-sized folders, the sample frames where they exist."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decur.config import DatasetSettings
from decur.preprocess.run import preprocess
from decur.shards import Modality, PairedShards, Sample, ShardWriter
from tests.unit.http_server import Server, serving

os.environ.setdefault("OMP_NUM_THREADS", "1")
MODALITIES = (Modality("sar", ("VV", "VH"), "none"), Modality("optical", ("R", "G", "B"), "none"))


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """The folder of real sample frames; the test is skipped where there is none."""
    folder = os.environ.get("DECUR_SAMPLES")
    if not folder:
        pytest.skip("DECUR_SAMPLES is not set")
    return Path(folder)


@pytest.fixture
def server() -> Iterator[Server]:
    """A local server of files."""
    with serving() as running:
        yield running


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


@pytest.fixture
def shards_root(tmp_path: Path) -> Path:
    """48 training and 24 test samples of two modalities, two seasons, 20 x 20 pixels."""
    root = tmp_path / "shards" / "pairs"
    with ShardWriter(root, MODALITIES) as writer:
        for i in range(72):
            writer.add(random_sample(i, "train" if i < 48 else "test"))
    return root


@pytest.fixture
def skipping(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Preprocess a dataset below `tmp_path`, bad samples left out; gives the shards' card."""

    def card(name: str) -> dict[str, Any]:
        (tmp_path / "manifest.json").write_text('{"provenance": {"inputs": {}}}')
        settings = DatasetSettings(pixels=32, bad_samples="skip")
        preprocess(name, settings, tmp_path, tmp_path / "out")
        return PairedShards(tmp_path / "out").card

    return card
