"""`decur download` of archives: from a server, from a folder, killed and run again."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from decur import datasets
from decur.config import DatasetSettings
from decur.config.datasets import DATASETS
from decur.download import archives, retry
from decur.download.archives import read_checksums
from decur.download.run import download
from decur.errors import DecurError
from decur.preprocess.run import preprocess
from decur.scenes.stand_ins import CHECKSUMS, tar, write_checksums
from tests.support.archives import PACKERS, pack
from tests.support.http_server import Server

NAME = "nrw_dataset.tar.gz"
FILES = {f"city{i % 7}/{i}_rgb.jp2": np.random.default_rng(i).bytes(6000) for i in range(600)}
LARGE = {f"city{i}/large_seg.tif": bytes([i]) * 20_000_000 for i in range(4)}
BODY = tar(FILES.items())


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.01)


@pytest.fixture
def packed(tmp_path) -> Path:
    """A folder with GeoNRW's archive and the list of its checksum."""
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    write_checksums(folder)
    return folder


def settings(packed: Path, server: Server | None = None, **more: object) -> DatasetSettings:
    mirror = None if server is None else server.url
    given = {"unpack": True, "checksums": str(packed / CHECKSUMS), "mirror": mirror}
    return DatasetSettings(**given | more)


def serve(server: Server, packed: Path, **how: object) -> None:
    for path in packed.iterdir():
        server.serve(path.name, path.read_bytes(), **how)


def without_official_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the mirror alone."""
    resolve = archives._resolve

    def only_mirror(*args):
        return [
            replace(a, parts=tuple(replace(part, urls=part.urls[:1]) for part in a.parts))
            for a in resolve(*args)
        ]

    monkeypatch.setattr(archives, "_resolve", only_mirror)


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a raw folder but the records of what is ours, and of this run."""
    found = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
    files = {name: p.read_bytes() for name, p in found.items() if not name.startswith(".decur/")}
    manifest = json.loads(files.pop("manifest.json"))
    del manifest["provenance"]["settings"], manifest["job"]
    return files | {"manifest.json": json.dumps(manifest).encode()}


def run(out: Path, chosen: DatasetSettings, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "decur", "download", "geonrw", "--out", str(out)]
    command += ["--settings", chosen.model_dump_json(), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


KEPT = {
    "geonrw": re.compile(r"(herne|aachen)/"),
    "sun-rgbd": re.compile(r"SUNRGBD/(kv1|kv2/align_kv2|kv2/kinect2data/00000[1-3])/"),
    "nyuv2": re.compile(r".*/000[1-3]\.png|splits.mat"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKERS)
def test_sample_frames_in_official_archives_are_fetched_and_preprocessed(
    real_frames, server, tmp_path, name
):
    keep = KEPT.get(name, re.compile(""))
    pack(name, real_frames, tmp_path / "packed", lambda path: keep.match(path) is not None)
    serve(server, tmp_path / "packed", fault="drop", drop_after=5000)
    modalities = ("rgb", "nir") if name == "geonrw" else None
    chosen = settings(tmp_path / "packed", server, pixels=32, modalities=modalities)
    raw = tmp_path / "raw" / name
    download(name, chosen, raw)
    manifest = json.loads((raw / "manifest.json").read_text())
    archives = [a for a in datasets.load(name).DATASET.archives if a.splits != "seco"]
    parts = [part for archive in archives for part in archive.parts]
    assert [file["name"] for file in manifest["archives"]] == [part.name for part in parts]
    records = datasets.load(name).scan(raw, chosen)
    arranged = tmp_path / "arranged"
    datasets.load(name).arrange_samples(real_frames, arranged)
    expected = datasets.load(name).scan(arranged, chosen)
    if name in ("ssl4eo-s12", "bigearthnet"):
        assert [(r.id, r.split) for r in records] == [(r.id, r.split) for r in expected]
    for record in records:
        for path in record.paths.values():
            same = arranged / path.relative_to(raw)
            if path.is_dir():
                assert {p.name for p in path.iterdir()} == {p.name for p in same.iterdir()}
            elif same.exists():
                assert path.read_bytes() == same.read_bytes()
    preprocess(name, chosen, raw, tmp_path / "shards")
    card = json.loads((tmp_path / "shards" / "card.json").read_text())
    assert {part.name for part in parts} <= set(card["raw"])


def test_archives_come_from_the_mirror_and_stay_beside_the_raw_folder(server, packed, tmp_path):
    serve(server, packed)
    raw = tmp_path / "raw" / "geonrw"
    download("geonrw", settings(packed, server), raw)
    assert {k: v for k, v in tree(raw).items() if k != "manifest.json"} == FILES
    assert sorted(p.name for p in raw.parent.iterdir()) == ["geonrw", "geonrw.archives"]
    assert (tmp_path / "raw/geonrw.archives" / NAME).read_bytes() == BODY
    manifest = json.loads((raw / "manifest.json").read_text())
    expected = read_checksums(packed / CHECKSUMS)[NAME]
    (archive,) = manifest["archives"]
    assert archive["urls"][0] == f"{server.url}/{NAME}"
    known = {key: archive[key] for key in ("name", "bytes", "checksum")}
    assert known == {"name": NAME, "bytes": len(BODY), "checksum": expected}
    assert manifest["provenance"]["inputs"][NAME] == expected


@pytest.mark.slow
def test_archives_that_are_there_are_taken_from_their_folder(packed, tmp_path):
    raw = tmp_path / "raw" / "geonrw"
    job = run(raw, settings(packed), "--from", str(packed))
    assert job.wait(60) == 0, job.stderr.read()
    by_key = tmp_path / "other" / "geonrw"
    download("geonrw", settings(packed, archives=str(packed)), by_key)
    assert tree(raw) == tree(by_key)
    assert list((raw.parent / "geonrw.archives").iterdir()) == []


def test_a_linked_folder_still_works(packed, tmp_path):
    (tmp_path / "unpacked" / "city").mkdir(parents=True)
    (tmp_path / "unpacked" / "city" / "file").write_text("x")
    raw = tmp_path / "raw" / "geonrw"
    download("geonrw", DatasetSettings(folder=str(tmp_path / "unpacked")), raw)
    assert (raw / "city").is_symlink() and (raw / "city" / "file").read_text() == "x"
    assert json.loads((raw / "manifest.json").read_text())["archives"] == []


def test_a_failed_download_says_what_to_fetch_by_hand(server, packed, tmp_path, monkeypatch):
    without_official_urls(monkeypatch)
    with pytest.raises(DecurError) as caught:
        download("geonrw", settings(packed, server), tmp_path / "raw" / "geonrw")
    message = str(caught.value)
    assert message.startswith(f"{NAME}: not fetched: {server.url}/{NAME}: HTTP 404; ")
    assert f"fetch {NAME} by hand from https://hf.co/datasets/torchgeo/geonrw" in message
    assert "--from (datasets.geonrw.archives)" in message and "\n" not in message
    assert not (tmp_path / "raw" / "geonrw").exists()


def test_wrong_bytes_never_become_raw_files(server, packed, tmp_path, monkeypatch):
    without_official_urls(monkeypatch)
    server.serve(NAME, tar({"city/other": b"other"}.items()))
    raw = tmp_path / "raw" / "geonrw"
    with pytest.raises(DecurError, match="checksum"):
        download("geonrw", settings(packed, server), raw)
    assert [p for p in raw.parent.rglob("*") if p.is_file()] == []


@pytest.mark.slow
def test_a_damaged_archive_leaves_the_raw_folder_as_it_was(packed, tmp_path):
    raw = tmp_path / "raw" / "geonrw"
    download("geonrw", settings(packed, archives=str(packed)), raw)
    before = tree(raw)
    (packed / NAME).write_bytes(BODY[:-50])
    write_checksums(packed)
    job = run(raw, settings(packed), "--from", str(packed))
    _, error = job.communicate(timeout=60)
    assert job.returncode == 1
    assert error.splitlines()[-1].startswith(f"decur: error: {packed / NAME}: truncated or damaged")
    assert tree(raw) == before


def test_a_disk_too_small_is_found_before_the_first_byte(server, packed, tmp_path, monkeypatch):
    serve(server, packed)
    usage = namedtuple("usage", "total used free")
    raw = tmp_path / "raw" / "geonrw"

    def free(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, count))

    free(2 * len(BODY) - 1)
    with pytest.raises(DecurError, match=r"needs .* GB more .* GB are free"):
        download("geonrw", settings(packed, server), raw)
    assert server.gets(NAME) == []
    free(2 * len(BODY))
    download("geonrw", settings(packed, server), raw)
    # What is there already takes no more space.
    shutil.rmtree(raw)
    free(len(BODY))
    download("geonrw", settings(packed, server), raw)


def test_other_archives_do_not_mix_with_what_an_older_run_unpacked(packed, tmp_path):
    raw = tmp_path / "raw" / "geonrw"
    old = raw / ".decur" / "0123456789ab"
    (old / "city0").mkdir(parents=True)
    (old / "city0" / "old").write_bytes(b"old")
    download("geonrw", settings(packed, archives=str(packed)), raw)
    assert "city0/old" not in tree(raw) and not old.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", rf"has no {NAME}; add it$"),
        ("d41d8cd98f00b204e9800998ecf8427e  a\n", r":1: not a line of sha256sum"),
    ],
)
def test_a_faulty_list_of_checksums_is_named(packed, tmp_path, text, message):
    (packed / CHECKSUMS).write_text(text)
    with pytest.raises(DecurError, match=message):
        download("geonrw", settings(packed), tmp_path / "geonrw")


def test_missing_folders_and_lists_are_named(packed, tmp_path):
    with pytest.raises(DecurError, match=r"geonrw.archives \(--from\): the folder .*absent"):
        download("geonrw", settings(packed, archives=str(tmp_path / "absent")), tmp_path / "a")
    with pytest.raises(DecurError, match=r"absent: list of checksums not found"):
        download("geonrw", DatasetSettings(checksums=str(tmp_path / "absent")), tmp_path / "a")
    with pytest.raises(DecurError, match=r"datasets.ombria.folder: set it to the unpacked"):
        download("ombria", DatasetSettings(), tmp_path / "a")


def test_a_raw_folder_inside_the_folder_that_it_links_to_is_refused(tmp_path):
    inside = tmp_path / "data" / "results" / "raw"
    (tmp_path / "data").mkdir()
    with pytest.raises(DecurError, match=r"geonrw.folder: .*data contains .*link to itself"):
        download("geonrw", DatasetSettings(folder=str(tmp_path / "data")), inside)
    assert not inside.exists()


def test_every_official_archive_can_be_fetched_and_joined():
    for name in DATASETS:
        for archive in datasets.load(name).DATASET.archives:
            assert archive.kind == "tar" or len(archive.parts) == 1
            for part in archive.parts:
                assert part.urls and all(url.endswith(f"/{part.name}") for url in part.urls)
                known = part.checksum or f"md5:{'0' * 32}"
                assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", known)
    (sar, optical, _) = datasets.load("ssl4eo-s12").DATASET.archives
    assert [part.name[-2:] for part in sar.parts] == [f"a{c}" for c in "abcdefghij"]
    assert [part.name[-2:] for part in optical.parts] == [f"a{c}" for c in "abcdefghijkl"]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["artifacts.records.write_json", "artifacts.ownership._record"])
def test_stopped_at_the_last_steps_a_rerun_ends_in_the_same_raw_folder(
    packed, tmp_path, monkeypatch, step
):
    """Before the new files take the place of the older ones, and while they do."""
    chosen = settings(packed, archives=str(packed))
    raw = tmp_path / "raw" / "geonrw"
    download("geonrw", chosen, raw)
    before = tree(raw)

    def stop(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"decur.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            download("geonrw", chosen, raw)
    download("geonrw", chosen, raw)
    assert tree(raw) == before


def measure(folder: Path) -> tuple[int, int, int]:
    """Bytes fetched, files unpacked, and bytes of a file half written; files may vanish."""
    fetched = unpacked = half = 0
    for root, _, names in os.walk(folder):
        for name in names:
            unpacked += ".archives" not in root
            try:
                size = (Path(root) / name).stat().st_size
            except OSError:
                continue
            if ".archives" in root:
                fetched += size
            elif name.startswith("."):
                half = max(half, size)
    return fetched, unpacked, half


@pytest.mark.slow
def test_killed_at_any_moment_a_rerun_ends_in_the_same_raw_folder(server, packed, tmp_path):
    body = tar((FILES | LARGE).items())
    (packed / NAME).write_bytes(body)
    write_checksums(packed)
    serve(server, packed, pause=0.003)
    chosen = settings(packed, server)
    undisturbed = tmp_path / "undisturbed" / "geonrw"
    download("geonrw", chosen, undisturbed)
    expected = tree(undisturbed)
    raw = tmp_path / "raw" / "geonrw"
    rng = np.random.default_rng()
    moments = [(int(n), 0, 0) for n in sorted(rng.integers(1, len(body), 3))]
    moments += [(0, int(n), 0) for n in sorted(rng.integers(1, len(FILES), 3))]
    moments += [(0, 0, int(n)) for n in rng.integers(1, 10_000_000, 2)]
    kills = 0
    for moment in moments:
        job = run(raw, chosen)
        while job.poll() is None and any(np.less(measure(raw.parent), moment)):
            time.sleep(0.0005)
        kills += job.poll() is None
        job.kill()
        job.communicate()
        assert not (raw / "manifest.json").exists() or tree(raw) == expected, moments
    job = run(raw, chosen)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 0, error
    assert tree(raw) == expected, moments
    assert sorted(p.name for p in raw.parent.iterdir()) == ["geonrw", "geonrw.archives"]
    assert kills >= 5, moments


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_a_raw_folder_that_is_a_link_is_filled_on_its_own_disk(packed, tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage(path))
    raw = tmp_path / "raw" / "geonrw"
    raw.parent.mkdir()
    elsewhere = Path("/dev/shm") / f"decur-{os.getpid()}"
    raw.symlink_to(elsewhere)
    try:
        for _ in range(2):
            download("geonrw", settings(packed, archives=str(packed)), raw)
        assert raw.is_symlink()
        assert {k: v for k, v in tree(elsewhere).items() if k != "manifest.json"} == FILES
        assert {path.stat().st_dev for path in asked} == {
            tmp_path.stat().st_dev,
            elsewhere.stat().st_dev,
        }
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)
