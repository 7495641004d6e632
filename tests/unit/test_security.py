"""Archives, images, lists, weights and configs from anybody: no code runs, nothing leads out of its
folder, and no header makes the memory grow. (Members of archives: also `test_unpack.py`.)"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
import yaml
from PIL import Image
from pydantic import BaseModel

from decur.config import Config, DatasetSettings, load_config, parse_config
from decur.config.experiments import load_experiments
from decur.datasets import Archive, RemoteFile, bigearthnet_v2, members, nyuv2, sun_rgbd
from decur.download.unpack import unpack
from decur.errors import DecurError
from decur.imagery.images import read_image
from decur.imagery.rasters import read_band
from decur.tables.markdown import as_table
from decur.tables.pages import grid
from decur.weights.files import read_tensors
from tests.support.rasters import write_tiff

HOME = Path(__file__).parents[2]
TINY = HOME / "tests" / "workflow" / "tiny.yaml"
MILLION = 10**6
ZEROS = np.zeros(200 * MILLION, np.uint8)


def png(path, width, height):
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def jpeg(path, width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    body = bytearray(buffer.getvalue())
    at = body.index(b"\xff\xc0")
    body[at + 5 : at + 9] = struct.pack(">HH", height, width)
    path.write_bytes(bytes(body))


def tiff(path, side):
    """A GeoTIFF of few bytes with the sides that its two tags are changed to."""
    write_tiff(path, np.zeros((16, 16), np.uint8))
    body = bytearray(path.read_bytes())
    for tag in (256, 257):  # ImageWidth, ImageLength
        at = body.index(struct.pack("<HH", tag, 3))
        body[at : at + 12] = struct.pack("<HHII", tag, 4, 1, side)
    path.write_bytes(bytes(body))


def hdf5(path, shape, **options):
    with h5py.File(path, "w") as file:
        for key in ("images", "depths", "rawDepths", "labels"):
            file.create_dataset(key, shape, "u1", **options)


HOSTILE = {
    "png": (lambda path: png(path, MILLION, MILLION), read_image),
    "png-just-too-large": (lambda path: png(path, 10_001, 10_000), read_image),
    "jpeg": (lambda path: jpeg(path, 65_000, 65_000), read_image),
    "tif": (lambda path: tiff(path, MILLION), lambda path: read_band(path, "labels")),
    "tif-declared": (lambda path: tiff(path, 60_000), lambda path: read_band(path, "labels")),
    "mat-frame": (
        lambda path: hdf5(path, (2, MILLION, MILLION), chunks=(1, 10, 10)),
        lambda path: nyuv2._frame(path, 0),
    ),
    "mat-count": (
        lambda path: hdf5(path, (10**9, 4, 4), chunks=(1, 4, 4)),
        lambda path: nyuv2._count(path),
    ),
    "splits": (
        lambda path: scipy.io.savemat(path, {"trainNdxs": ZEROS}, do_compression=True),
        lambda path: nyuv2._matlab(path, "trainNdxs"),
    ),
}
LOOK = """
import resource, sys
from pathlib import Path
from decur.errors import DecurError
from tests.unit.test_security import HOSTILE
for name in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = Path(sys.argv[1]) / name
    try:
        HOSTILE[name][1](path)
        told = "read"
    except DecurError as error:
        told = str(error)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{name}|{grown // 1024}|{told}")
"""


@pytest.mark.slow
def test_no_header_makes_the_memory_grow(tmp_path):
    """Each file is refused in one line; resident memory grows by less than 50 MB."""
    for name, (make, _) in HOSTILE.items():
        make(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path), *HOSTILE],
        capture_output=True,
        text=True,
        cwd=HOME,
        check=True,
    )
    found = [line.split("|", 2) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in found] == list(HOSTILE)
    for name, grown, told in found:
        assert told.startswith(f"{tmp_path / name}: "), told
        assert int(grown) < 50, (name, grown)
    assert done.stderr == ""


def test_an_image_that_would_start_another_program_is_not_read(tmp_path):
    """Pillow hands EPS to Ghostscript."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(DecurError, match=r"a\.png: truncated or damaged"):
        read_image(path)


def test_a_raster_that_names_another_file_is_not_read(tmp_path):
    """GDAL would follow a VRT to any file or address."""
    write_tiff(tmp_path / "secret.tif", np.ones((4, 4), np.uint8))
    path = tmp_path / "a.tif"
    path.write_text(
        '<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'secret.tif'}</SourceFilename>"
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(DecurError, match=r"a\.tif: cannot be read"):
        read_band(path, "labels")


def test_an_archive_of_frames_that_names_another_file_is_not_read(tmp_path):
    path, other = tmp_path / "a.mat", tmp_path / "other.mat"
    hdf5(other, (2, 4, 4))
    with h5py.File(path, "w") as file:
        file["images"] = h5py.ExternalLink(str(other), "images")
    with pytest.raises(DecurError, match="is stored in another file"):
        nyuv2._count(path)
    with h5py.File(path, "w") as file:
        secret = [(str(other), 0, 32)]
        file.create_dataset("images", (2, 4, 4), "u1", external=secret)
    with pytest.raises(DecurError, match="is stored in another file"):
        nyuv2._count(path)


@pytest.mark.parametrize("line", ["/etc/image/a.jpg", "../../etc/image/a.jpg", "a/../../b.jpg"])
def test_a_list_of_frames_leads_nowhere_else(tmp_path, line):
    (tmp_path / "meta").mkdir()
    for name in sun_rgbd.LISTS.values():
        (tmp_path / "meta" / name).write_text(f"{line}\n")
    with pytest.raises(DecurError, match=f"'{line}' leads out of"):
        sun_rgbd.scan(tmp_path, DatasetSettings())


@pytest.mark.parametrize("name", ["../../etc", "/etc/a_b_c_d"])
def test_a_table_of_patches_leads_nowhere_else(tmp_path, name):
    columns = {"patch_id": name, "s1_name": name, "split": "train", "country": "x", "labels": ["x"]}
    columns |= dict.fromkeys(bigearthnet_v2.FLAGS, False)
    pd.DataFrame([columns]).to_parquet(tmp_path / bigearthnet_v2.METADATA)
    with pytest.raises(DecurError, match="leads out of"):
        bigearthnet_v2.scan(tmp_path, DatasetSettings())


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def plain_pickle(tree, path):
    path.write_bytes(pickle.dumps(tree, protocol=2))


@pytest.mark.parametrize("write", [torch.save, plain_pickle])
def test_a_file_of_weights_runs_no_code(tmp_path, write):
    path, owned = tmp_path / "a.pth", tmp_path / "owned"
    write({"conv1.weight": Touch(owned)}, path)
    with pytest.raises(DecurError, match="cannot be read as tensors only"):
        read_tensors(path)
    assert not owned.exists()


def test_weights_have_names(tmp_path):
    torch.save({1: torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(DecurError, match="not a state dict"):
        read_tensors(tmp_path / "a.pth")


def test_a_checkpoint_runs_no_code(tmp_path):
    from decur.training.checkpoint import load_checkpoint

    owned = tmp_path / "owned"
    torch.save({"identity": "x", "step": Touch(owned)}, tmp_path / "checkpoint-00000001.pt")
    assert load_checkpoint(tmp_path, "x") is None
    assert not owned.exists()


@pytest.mark.parametrize("read", [load_config, load_experiments])
def test_a_config_runs_no_code(tmp_path, read):
    path, owned = tmp_path / "a.yaml", tmp_path / "owned"
    path.write_text(f"scale: !!python/object/apply:os.mkdir ['{owned}']\n")
    with pytest.raises((DecurError, yaml.YAMLError)):
        read(path)
    assert not owned.exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", "../up"),
        ("scale", "a b"),
        ("scale", "--help"),
        ("scale", "a\n"),
        ("results", "-rf"),
        ("results", "{wildcard}"),
        ("results", "a\nb"),
        ("datasets", {"../../x": {}}),
        ("datasets", {"-x": {}}),
        ("datasets", {"$(touch x)": {}}),
        ("transfer", {"a;b": {}}),
        ("scenarios", {"../x": {}}),
    ],
)
def test_a_name_of_the_config_is_a_plain_word(key, value):
    tree = yaml.safe_load(TINY.read_text())
    tree[key] = tree[key] | value if isinstance(value, dict) else value
    with pytest.raises(DecurError, match=f"^config: {key}") as raised:
        parse_config(tree)
    assert len(str(raised.value).splitlines()) == 1


def test_a_name_of_an_experiment_is_a_plain_word(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text("'a/../../table1': {title: a, caption: b}\n")
    with pytest.raises(DecurError, match="table1': a name consists of"):
        load_experiments(path)


def test_every_part_of_the_config_refuses_keys_that_it_does_not_know():
    def parts(model: type[BaseModel]) -> set[type[BaseModel]]:
        found = {model}
        for below in model.__subclasses__():
            found |= parts(below)
        return found

    from decur.config import Strict

    assert Config in parts(Strict)
    assert all(model.model_config["extra"] == "forbid" for model in parts(Strict))
    schema = json.loads((HOME / "config" / "schema.json").read_text())
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False


def bomb(path, size):
    """An archive of a few kilobytes with a file of many megabytes."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a", b"\0" * size)
        return Archive((RemoteFile(path.name, ()),), "zip")
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo("a")
        info.size = size
        file.addfile(info, io.BytesIO(b"\0" * size))
    return Archive((RemoteFile(path.name, ()),), "tar")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_small_archive_does_not_fill_the_disk(tmp_path, monkeypatch, name):
    monkeypatch.setattr(members, "SMALL", 10 * MILLION)
    archive = bomb(tmp_path / name, 20 * MILLION)
    with pytest.raises(DecurError, match="'a' fills over 50 times the archive's size"):
        unpack(archive, [tmp_path / name], tmp_path / "raw")
    assert not list((tmp_path / "raw").rglob("*"))


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE]
)
def test_a_name_of_a_gigabyte_is_not_read(tmp_path, kind):
    """tarfile would take it into memory."""
    path = tmp_path / "a.tar.gz"
    info = tarfile.TarInfo("a")
    info.type, info.size = kind, 10 * MILLION
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as file:
        file.fileobj.write(info.tobuf(tarfile.USTAR_FORMAT) + b"a" * info.size)
        file.offset += 512 + info.size
    with pytest.raises(DecurError, match=r"with holes|of 10000000 bytes"):
        unpack(Archive((RemoteFile(path.name, ()),), "tar"), [path], tmp_path / "raw")


def test_a_name_of_a_sample_is_no_tag_of_the_report():
    table = grid([["sample"], ["<script>alert(1)</script>"], ["83.1<sup>a</sup>"]])
    text = as_table(table)
    assert "<script" not in text and "&lt;script>" in text
    assert "<sup>a</sup>" in text


RULES = [HOME / "workflow" / "Snakefile", *sorted((HOME / "rules").glob("*.smk"))]
FREE = {
    "threads",  # a number
    "resources.launch",  # commands of the profile
    "resources.options",
    "wildcards.dataset",  # plain words: see the wildcard constraints
    "wildcards.kind",
    "wildcards.piece",
}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_whatever_a_rule_gives_to_a_shell_is_quoted(path):
    commands = re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text())
    commands = [
        text for text in commands if re.search(r"decur \w+ |^ --|cp |mv |export |grep", text)
    ]
    names = {name for text in commands for name in re.findall(r"\{([^{}]*)\}", text)}
    assert {name for name in names if not name.endswith(":q")} <= FREE
