"""Samples read straight from archives: the same shards as from unpacked files, whatever happens."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from decur import datasets
from decur.config import DatasetSettings, Piece
from decur.download import retry
from decur.download.run import download
from decur.errors import DecurError
from decur.imagery import rasters
from decur.preprocess.run import preprocess
from decur.scenes.stand_ins import CHECKSUMS, write_checksums, write_parts
from decur.shards.part import array_header
from tests.support.archives import PACKERS, pack, pack_tree
from tests.support.bigearthnet import HIDING, make_patch
from tests.support.bigearthnet import write_lists as write_patches
from tests.support.geonrw import write_tile
from tests.support.http_server import Server
from tests.support.rasters import cut_short
from tests.support.ssl4eo import make_location
from tests.support.sun_rgbd import write_frame, write_label
from tests.support.sun_rgbd import write_lists as write_frames

PATCH = "S2A_MSIL2A_20170617T113321_{}_55"
FRAMES = [f"SUNRGBD/kv1/b3dodata/{letter}" for letter in "abcd"]


def locations(raw: Path) -> Path:
    for number in range(9):
        seasons = ("0401", "0101", "0701", "1001")[: 1 + number % 4]
        make_location(raw, f"{number:07d}", seasons, "ABAB")
    (raw / "void_ids.csv").write_text("3\n")
    return raw


def patches(raw: Path) -> Path:
    names = [PATCH.format(number) for number in range(9)]
    for name in names:
        make_patch(raw, name, ("Pastures", "Sea and ocean"))
    write_patches(raw, train=names[:4], val=names[4:6], test=names[6:], **{HIDING[0]: names[2:3]})
    return raw


def tiles(raw: Path) -> Path:
    for number in range(3):
        write_tile(raw, ("neuss", "aachen", "bonn")[number], f"{280 + number}_5650")
    return raw


def frames(raw: Path) -> Path:
    for frame in FRAMES:
        write_frame(raw, frame)
    write_frames(raw, FRAMES[:1], FRAMES[1:])
    write_label(raw, 2, np.ones((48, 64), np.uint8))
    return raw


BULK = {
    "geonrw": re.compile(r"(?!herne|aachen)"),
    "sun-rgbd": re.compile(r"SUNRGBD/kv2/kinect2data/0000[^0]"),
}
"""Most real tiles and frames, which take too long."""

RAW: dict[str, Callable[[Path], Path]] = {
    "ssl4eo-s12": locations,
    "bigearthnet": patches,
    "geonrw": tiles,
    "sun-rgbd": frames,
}


def settings(packed: Path, **more: object) -> DatasetSettings:
    given = {"archives": str(packed), "checksums": str(packed / CHECKSUMS), "pixels": 16}
    return DatasetSettings(**given | more)


def shards(name: str, chosen: DatasetSettings, place: Path, **how: object) -> dict[str, bytes]:
    """The files of the shards folder that download and preprocessing make, but the card."""
    raw, out = place / "raw" / name, place / "shards" / name
    if not raw.exists():
        download(name, chosen, raw)
    preprocess(name, chosen, raw, out, **how)
    return contents(out, raw)


def contents(out: Path, raw: Path) -> dict[str, bytes]:
    """What is in a shards folder, but its card and the places of raw files."""
    names = (path for path in out.iterdir() if path.is_file() and path.name != "card.json")
    found = {path.name: path.read_bytes() for path in names}
    found["quarantine.csv"] = found["quarantine.csv"].replace(str(raw).encode(), b"RAW")
    return found | {"index.parquet": samples(out)}


def samples(out: Path) -> bytes:
    import pandas as pd

    index = pd.read_parquet(out / "index.parquet")
    index["source"] = [str(Path(source).name) for source in index["source"]]
    return index.to_json().encode()


def both_ways(name: str, packed: Path, place: Path, **more: object) -> list[dict[str, bytes]]:
    """The shards by way of unpacked files, and straight from the archives."""
    return [
        shards(name, settings(packed, unpack=unpack, **more), place / str(unpack))
        for unpack in (True, False)
    ]


def unpacked_files(raw: Path) -> list[str]:
    return [path.name for path in raw.rglob("*") if path.suffix in (".tif", ".jp2", ".png", ".jpg")]


@pytest.mark.parametrize("name", RAW)
def test_shards_are_those_of_unpacked_files(tmp_path, name):
    pack_tree(name, RAW[name](tmp_path / "tree"), tmp_path / "packed")
    expected, found = both_ways(name, tmp_path / "packed", tmp_path, bad_samples="skip")
    assert len(expected) > 4 and found == expected
    assert unpacked_files(tmp_path / "True" / "raw") and not unpacked_files(tmp_path / "False")


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKERS)
def test_shards_of_real_frames_are_those_of_unpacked_files(real_frames, tmp_path, name):
    bulk = BULK.get(name, re.compile("$"))
    pack(name, real_frames, tmp_path / "packed", lambda path: not bulk.match(path))
    more = {"modalities": ("rgb", "nir")} if name == "geonrw" else {}
    expected, found = both_ways(name, tmp_path / "packed", tmp_path, pixels=32, **more)
    assert len(expected) > 2 and found == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", RAW)
def test_members_may_come_in_any_order_and_twice(tmp_path, name):
    tree = RAW[name](tmp_path / "tree")
    paths = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    pack_tree(name, tree, tmp_path / "sorted", paths)
    shuffled = [*np.random.default_rng(1).permutation(paths), *paths[:30]]
    pack_tree(name, tree, tmp_path / "shuffled", [str(path) for path in shuffled])
    first, second = (
        shards(name, settings(tmp_path / order, bad_samples="skip"), tmp_path / f"by-{order}")
        for order in ("sorted", "shuffled")
    )
    assert first == second


BAD = {
    "ssl4eo-s12": ("s1/0000001/*/VH.tif", "s1/0000002/*/VV.tif", "s2c/*2/*/B2.tif", "s2c/*4/*/B9*"),
    "bigearthnet": ("BigEarthNet-S1-v1.0/*_1_55/*VH.tif", "BigEarthNet-v1.0/*_3_55/*_B09.tif"),
    "geonrw": ("aachen/*_dem.tif", "bonn/*_rgb.jp2"),
    "sun-rgbd": ("SUNRGBD/*/*/b/depth/*", "SUNRGBD/*/*/c/image/*"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RAW)
def test_bad_samples_are_left_out_for_the_same_reasons(tmp_path, name):
    tree = RAW[name](tmp_path / "tree")
    first, *others = (path for pattern in BAD[name] for path in sorted(tree.glob(pattern)))
    first.unlink()
    for path in others:
        cut_short(path)
    pack_tree(name, tree, tmp_path / "packed")
    expected, found = both_ways(name, tmp_path / "packed", tmp_path, bad_samples="skip")
    assert expected["quarantine.csv"].count(b"\n") > 2 and found == expected
    chosen = settings(tmp_path / "packed", bad_samples="stop")
    with pytest.raises(DecurError) as raised:
        shards(name, chosen, tmp_path / "False")
    assert "decur-" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.slow
def test_the_patches_of_many_tiles_are_the_same_for_any_number_of_workers(tmp_path):
    for number in range(20):
        write_tile(tmp_path / "tree", ("neuss", "aachen")[number % 2], f"{280 + number}_5650")
    pack_tree("geonrw", tmp_path / "tree", tmp_path / "packed")
    chosen = settings(tmp_path / "packed")
    expected = shards("geonrw", chosen, tmp_path / "one")
    assert shards("geonrw", chosen, tmp_path / "two", workers=2) == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_shards_are_the_same_for_any_number_of_workers_and_pieces(tmp_path, workers):
    pack_tree("bigearthnet", patches(tmp_path / "tree"), tmp_path / "packed")
    chosen = settings(tmp_path / "packed")
    expected = shards("bigearthnet", chosen, tmp_path / "one")
    assert shards("bigearthnet", chosen, tmp_path / "many", workers=workers) == expected
    raw, out = tmp_path / "one" / "raw" / "bigearthnet", tmp_path / "pieces"
    for number in range(workers, 0, -1):
        preprocess("bigearthnet", chosen, raw, out, piece=Piece(number, workers))
    packed = tmp_path / "packed"
    moved = [path.rename(tmp_path / path.name) for path in packed.glob("*.tar.gz")]
    for path in moved:  # the pieces have read all: what has the right size is not read again
        (packed / path.name).write_bytes(b"\0" * path.stat().st_size)
    preprocess("bigearthnet", chosen, raw, out)
    assert contents(out, raw) == expected


def preprocess_command(raw: Path, out: Path, chosen: DatasetSettings) -> list[str]:
    command = [sys.executable, "-m", "decur", "preprocess", "ssl4eo-s12", "--threads", "2"]
    command += ["--settings", chosen.model_dump_json(), "--raw", str(raw), "--out", str(out)]
    return command


def kill_and_resume(tmp_path: Path, kills: int) -> None:
    tree = tmp_path / "tree"
    for number in range(40):
        make_location(tree, f"{number:07d}", ("0101", "0401"), "AB")
    pack_tree("ssl4eo-s12", tree, tmp_path / "packed")
    chosen = settings(tmp_path / "packed")
    expected = shards("ssl4eo-s12", chosen, tmp_path / "whole")
    raw, out = tmp_path / "whole" / "raw" / "ssl4eo-s12", tmp_path / "out"
    (scratch := tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(scratch)}
    start = time.monotonic()
    subprocess.run(preprocess_command(raw, tmp_path / "timed", chosen), check=True)
    took = time.monotonic() - start
    moments = np.random.default_rng().uniform(0.3, 1, kills) * took
    for moment in moments:
        command = preprocess_command(raw, out, chosen)
        job = subprocess.Popen(command, start_new_session=True, env=environment)
        try:
            assert job.wait(moment) == 0  # what a kill left is no reason to fail
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    subprocess.run(preprocess_command(raw, out, chosen), check=True, env=environment)
    assert contents(out, raw) == expected, moments.tolist()
    assert not list(scratch.iterdir())


@pytest.mark.slow
def test_killed_twice_a_rerun_makes_the_same_shards(tmp_path):
    kill_and_resume(tmp_path, 2)


@pytest.mark.long
def test_killed_at_ten_random_moments_a_rerun_makes_the_same_shards(tmp_path):
    kill_and_resume(tmp_path, 10)


def stop(*args: object) -> None:
    raise KeyboardInterrupt


class Stopped(NamedTuple):
    """Preprocessing that was stopped: its settings and folders, and the shards of a whole one."""

    chosen: DatasetSettings
    raw: Path
    out: Path
    expected: dict[str, bytes]

    def go_on(self, **more: object) -> dict[str, bytes]:
        chosen = self.chosen.model_copy(update=more)
        preprocess("ssl4eo-s12", chosen, self.raw, self.out)
        return contents(self.out, self.raw)


def stopped_at(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: Callable[..., None] = stop
) -> Stopped:
    pack_tree("ssl4eo-s12", locations(tmp_path / "tree"), tmp_path / "packed")
    chosen = settings(tmp_path / "packed", bad_samples="skip")
    expected = shards("ssl4eo-s12", chosen, tmp_path)
    found = Stopped(chosen, tmp_path / "raw" / "ssl4eo-s12", tmp_path / "out", expected)
    with monkeypatch.context() as patch:
        patch.setattr(step, instead)
        with pytest.raises(KeyboardInterrupt):
            found.go_on()
    return found


def test_what_was_read_before_a_stop_is_not_read_again(tmp_path, monkeypatch):
    job = stopped_at("decur.preprocess.completing.save_part", tmp_path, monkeypatch)
    monkeypatch.setattr("decur.preprocess.streaming.read_group", stop)
    assert job.go_on() == job.expected


@pytest.mark.parametrize("renamed", [0, 1, 9, 18])
def test_shards_that_were_put_in_place_before_a_stop_are_not_read_again(
    tmp_path, monkeypatch, renamed
):
    rename, left = Path.rename, renamed

    def rename_so_many(path: Path, target: Path) -> None:
        nonlocal left
        left -= "parts" in path.parts  # from the hidden folder to its place
        stop() if left < 0 else rename(path, target)

    job = stopped_at("pathlib.Path.rename", tmp_path, monkeypatch, rename_so_many)
    monkeypatch.setattr("decur.preprocess.streaming.read_group", stop)
    assert job.go_on() == job.expected


@pytest.mark.slow
@pytest.mark.parametrize("step", ["completing.save_part", "run.assemble"])
@pytest.mark.parametrize("how", ["lost", "emptied"])
def test_slots_that_were_lost_are_filled_again(tmp_path, monkeypatch, step, how):
    """A file was removed, or is of zeros again, as after a power cut."""
    job = stopped_at(f"decur.preprocess.{step}", tmp_path, monkeypatch)
    file = job.out / ".decur" / "parts" / "optical-00002.npy"
    size = file.stat().st_size
    file.unlink()
    if how == "emptied":
        header = array_header(np.load(tmp_path / "shards/ssl4eo-s12/optical-00002.npy").shape)
        file.write_bytes(header + b"\0" * (size - len(header)))
    if (step, how) != ("completing.save_part", "lost"):  # which is seen before anything is read
        with pytest.raises(DecurError, match="run again"):
            job.go_on()
    assert job.go_on() == job.expected


def test_bad_samples_that_were_to_be_left_out_are_named_when_they_are_not(tmp_path, monkeypatch):
    job = stopped_at("decur.preprocess.run.assemble", tmp_path, monkeypatch)
    with pytest.raises(DecurError, match=r"void_ids\.csv"):
        job.go_on(bad_samples="stop")
    assert job.go_on() == job.expected


def test_archives_that_are_gone_are_named(tmp_path):
    pack_tree("geonrw", tiles(tmp_path / "tree"), tmp_path / "packed")
    chosen = settings(tmp_path / "packed")
    download("geonrw", chosen, tmp_path / "raw")
    (archive,) = (tmp_path / "packed").glob("*.tar.gz")
    archive.unlink()
    with pytest.raises(DecurError, match=archive.name) as raised:
        preprocess("geonrw", chosen, tmp_path / "raw", tmp_path / "out")
    assert "\n" not in str(raised.value) and not (tmp_path / "out" / "card.json").exists()


def test_only_fetched_archives_are_removed_after_use(server: Server, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.01)
    packed = tmp_path / "packed"
    pack_tree("bigearthnet", patches(tmp_path / "tree"), packed)
    given, fetched = tmp_path / "given", tmp_path / "raw" / "bigearthnet.archives"
    given.mkdir()
    (packed / "BigEarthNet-S1-v1.0.tar.gz").rename(given / "BigEarthNet-S1-v1.0.tar.gz")
    fetched.mkdir(parents=True)
    (fetched / "train.csv").write_bytes((packed / "train.csv").read_bytes())  # put there by hand
    for path in packed.iterdir():
        server.serve(path.name, path.read_bytes())
    for path in (*given.iterdir(), packed / CHECKSUMS):
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / "all" / path.name).write_bytes(path.read_bytes())
    more = {"mirror": server.url, "keep_archives": False, "archives": str(given)}
    chosen = settings(packed, **more)
    raw, out = tmp_path / "raw" / "bigearthnet", tmp_path / "out"
    download("bigearthnet", chosen, raw)
    assert (fetched / "BigEarthNet-S2-v1.0.tar.gz").is_file()
    with monkeypatch.context() as patch:
        patch.setattr("decur.preprocess.run.verify", lambda *args, **more: ["a fault"])
        with pytest.raises(DecurError, match="a fault; no archive was removed"):
            preprocess("bigearthnet", chosen, raw, out)
    assert (fetched / "BigEarthNet-S2-v1.0.tar.gz").is_file()
    preprocess("bigearthnet", chosen, raw, out)
    left = {path.name for path in fetched.iterdir() if path.name != ".decur"}
    assert left == {"train.csv"} and len(list(given.iterdir())) == 1


@pytest.mark.parametrize("name", ["ssl4eo-s12", "geonrw"])
def test_another_librarys_archives_are_read(real_frames, tmp_path, monkeypatch, name):
    """Made by the authors of another library, in parts of their own, for their tests.

    Their pixels are random numbers, and their elevation is of 8 bits.
    """
    monkeypatch.setattr("decur.datasets.sentinel.reflectance_fault", lambda values: "")
    monkeypatch.setitem(rasters.DTYPES, "elevation", ("uint8",))
    made = real_frames / "torchgeo-layouts" / ("geonrw" if name == "geonrw" else "ssl4eo/s12")
    (tmp_path / "packed").mkdir()
    for archive in datasets.load(name).DATASET.archives:
        whole = archive.parts[0].name.split(".part")[0]
        parts = sorted(made.glob(f"{whole}.part*")) or sorted(made.glob(whole))
        body = b"".join(part.read_bytes() for part in parts)
        write_parts(archive, body, tmp_path / "packed")
    write_checksums(tmp_path / "packed")
    expected, found = both_ways(name, tmp_path / "packed", tmp_path)
    assert found == expected
    linked = tmp_path / "linked"
    layout = {"s1": made / "s1", "s2c": made / "s2c"}
    if name == "geonrw":
        layout = {city.name: city for city in made.iterdir() if city.is_dir()}
    for folder, target in layout.items():
        (linked / folder).parent.mkdir(exist_ok=True)
        (linked / folder).symlink_to(target)
    chosen = DatasetSettings(folder=str(linked), pixels=16)
    assert shards(name, chosen, tmp_path / "by-folder") == expected
