"""Reading arrays: never by memory maps, with many files, and on file systems that fail."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decur.artifacts import files
from decur.artifacts.files import UnreadableError
from decur.cli import main
from decur.config import DatasetSettings
from decur.datasets import geonrw
from decur.errors import DecurError
from decur.imagery.images import read_image
from decur.imagery.rasters import read_band
from decur.preprocess.run import preprocess
from decur.shards import PairedShards, ShardWriter, writer
from decur.shards.array_file import ArrayReader
from decur.weights.files import read_tensors, read_weights
from tests.support.preprocessing import make_raw
from tests.support.samples import MODALITIES, random_sample

SHAPES = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.0,))


@settings(max_examples=50)
@given(shape=SHAPES, seed=st.integers(0, 99), data=st.data())
def test_any_part_is_what_numpy_reads(tmp_path_factory, shape, seed, data):
    path = tmp_path_factory.mktemp("any") / "a.npy"
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.save(path, array)
    reader = ArrayReader(path)
    assert (len(reader), reader.shape) == (len(array), shape)
    depth = data.draw(st.integers(1, len(shape) - 1))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape[:depth])
    out = np.empty(shape[depth:], np.uint8)
    reader.read_into(out, *index)
    np.testing.assert_array_equal(out, array[index])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no array header"),
        (b"\x93NUMPY\x07\x00", "no array header"),
        (np.zeros((2, 3)), "contains float64"),
        (np.asfortranarray(np.zeros((2, 3), np.uint8)), "contains uint8, not rows of"),
        (None, "not found"),
    ],
)
def test_damage_is_named_and_has_its_remedy(tmp_path, content, reason):
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    message = rf"a\.npy: unreadable \({reason}.*run the preprocess stage again"
    with pytest.raises(DecurError, match=message):
        ArrayReader(path)


def test_a_file_that_was_cut_is_damaged(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 9), np.uint8))
    reader, content = ArrayReader(path), path.read_bytes()
    path.write_bytes(content[:-1])  # while it is open, too
    for read in (lambda: reader.read_into(np.empty(9, np.uint8), 3), lambda: ArrayReader(path)):
        with pytest.raises(DecurError, match="ends early"):
            read()


@pytest.mark.slow
def test_a_dataset_may_have_more_files_than_the_usual_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", 1)
    with ShardWriter(tmp_path / "many", MODALITIES) as many:
        for i in range(60):
            many.add(random_sample(i, side=4))
    code = """
import resource, sys, numpy as np
from decur.shards import PairedShards
soft, hard = 100, int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
shards = PairedShards(sys.argv[1])
print(shards.batch("sar", np.arange(60)).shape)
"""

    def read(hard: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(tmp_path / "many"), str(hard)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert read(1000).stdout == "(60, 2, 4, 4)\n"
    refused = read(100)
    assert "cannot be read (Too many open files); raise the limit of open files" in refused.stderr
    assert "preprocess" not in refused.stderr.splitlines()[-1]


def test_an_error_of_the_file_system_is_not_a_reason_to_preprocess_again(
    shards_root, monkeypatch, capsys
):
    def fail(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    shards = PairedShards(shards_root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", fail)
        with pytest.raises(DecurError, match=r"sar-00000\.npy: .*Input/output"):
            shards.batch("sar", np.array([0]))
    opened = Path.open

    def open_failing(self: Path, *args: str, **more: object) -> object:
        return fail() if self.name == "index.parquet" else opened(self, *args, **more)

    monkeypatch.setattr(Path, "open", open_failing)
    with pytest.raises(UnreadableError, match=r"index\.parquet: "):
        PairedShards(shards_root)
    assert main(["verify", str(shards_root)]) == 1
    printed = capsys.readouterr()
    assert "cannot be read (Input/output error)" in printed.err
    assert "preprocess" not in printed.err


def test_samples_that_the_file_system_does_not_give_are_not_left_out(tmp_path, monkeypatch):
    raw, read, opened = make_raw(tmp_path / "raw", 3), geonrw.read, Path.open

    def read_failing(record, settings):
        if record.patch == 7 and record.split == "train":
            raise DecurError("truncated, says a library that met an I/O error")
        return read(record, settings)

    def open_failing(self: Path, *args: str, **more: object) -> object:
        if self.suffix == ".jp2":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(self, *args, **more)

    monkeypatch.setattr(geonrw, "read", read_failing)
    skipping = DatasetSettings(pixels=16, bad_samples="skip")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_failing)
        with pytest.raises(UnreadableError, match=r"jp2: .*Input/output"):
            preprocess("geonrw", skipping, raw, tmp_path / "out")
    preprocess("geonrw", skipping, raw, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "card.json").read_text())["quarantined"] == 2


def test_a_pass_over_the_data_adds_no_memory_to_the_process(tmp_path):
    """Shards of 64 MB; with memory maps their pages count as memory of the process."""
    with ShardWriter(tmp_path / "large", MODALITIES) as large:
        for i in range(10):
            large.add(random_sample(i, side=800))
    code = """
import sys, numpy as np
from decur.shards import PairedShards
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(l.split()[1]) for l in lines if l.startswith(("RssFile", "RssAnon"))) / 1024
shards = PairedShards(sys.argv[1])
shards.batch("sar", np.array([0]))
before = resident()
for row in range(10):
    for season in range(2):
        for name in ("sar", "optical"):
            shards.batch(name, np.array([row]), np.array([season]))
print(resident() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.tif", lambda path: read_band(path, "labels")),
        ("a.png", read_image),
        ("a.safetensors", read_weights),
        ("a.pth", read_tensors),
    ],
)
def test_no_file_is_called_damaged_that_the_file_system_does_not_give(
    tmp_path, monkeypatch, name, read
):
    path, opened = tmp_path / name, Path.open
    path.write_bytes(b"rubbish")
    with pytest.raises(DecurError) as damaged:
        read(path)
    assert not isinstance(damaged.value, UnreadableError)

    def open_failing(self: Path, *args: str, **more: object) -> object:
        if self == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(self, *args, **more)

    monkeypatch.setattr(Path, "open", open_failing)
    with pytest.raises(UnreadableError, match=r"a\..*: .*Input/output"):
        read(path)
