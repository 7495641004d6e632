"""Archives that spoil after they were listed, and workers that die while these are read."""

import gzip
import os
import signal
from pathlib import Path

import pytest

from decur.config import DatasetSettings
from decur.download.run import download
from decur.errors import DecurError
from decur.preprocess import streaming
from decur.preprocess.run import preprocess
from decur.scenes.stand_ins import CHECKSUMS, write_checksums
from tests.support.archives import pack_tree
from tests.support.bigearthnet import HIDING, make_patch, write_lists

NAME = "bigearthnet"
PATCHES = [f"S2A_MSIL2A_20170617T113321_{number}_55" for number in range(9)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive whose members are stored as they are, so that any byte of one can be changed."""
    for patch in PATCHES:
        make_patch(tmp_path / "tree", patch, ("Pastures",))
    write_lists(
        tmp_path / "tree",
        train=PATCHES[:4],
        val=PATCHES[4:6],
        test=PATCHES[6:],
        **{HIDING[0]: PATCHES[2:3]},
    )
    pack_tree(NAME, tmp_path / "tree", tmp_path / "packed")
    archive = tmp_path / "packed" / "BigEarthNet-S2-v1.0.tar.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), 0, mtime=0))
    write_checksums(tmp_path / "packed")
    return archive


def run(archive: Path, out: Path, workers: int = 1) -> dict[str, bytes]:
    """The arrays that are made of the archives; they are listed by the first call."""
    packed = archive.parent
    given = {"archives": str(packed), "checksums": str(packed / CHECKSUMS), "pixels": 16}
    raw, settings = packed.parent / "raw", DatasetSettings(**given)
    if not raw.exists():
        download(NAME, settings, raw)
    preprocess(NAME, settings, raw, out, workers=workers)
    return {path.name: path.read_bytes() for path in out.glob("*.npy")}


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_of_an_archive_whose_sum_is_wrong_is_kept(archive, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(streaming, "NOTED_ENTRIES", 0)  # as of a large archive
    expected, whole = run(archive, tmp_path / "whole"), archive.read_bytes()
    image = tmp_path / "tree" / "BigEarthNet-v1.0" / PATCHES[0] / f"{PATCHES[0]}_B02.tif"
    pixels = image.read_bytes()
    last = whole.index(pixels) + len(pixels) - 1
    archive.write_bytes(whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :])
    with pytest.raises(DecurError, match="truncated or damaged") as raised:
        run(archive, tmp_path / "out", workers)
    assert str(archive) in str(raised.value) and "\n" not in str(raised.value)
    archive.write_bytes(whole)
    assert run(archive, tmp_path / "out", workers) == expected


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_no_damage_of_the_archive(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "read_group", die)  # found by its name in the workers, too
    with pytest.raises(DecurError, match=f"{NAME}: a worker process died") as raised:
        run(archive, tmp_path / "out", workers=2)
    assert "\n" not in str(raised.value)
