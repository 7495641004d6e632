"""What tests share: small shards in memory-sized folders, the sample frames where they exist."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from decur.config import DatasetSettings
from decur.preprocess.run import preprocess
from decur.shards import PairedShards, ShardWriter
from tests.support.http_server import Server, serving
from tests.support.samples import MODALITIES, random_sample

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Machines are shared, so how long an example takes is no property of the code.
hypothesis.settings.register_profile("decur", deadline=None)
hypothesis.settings.load_profile("decur")


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
