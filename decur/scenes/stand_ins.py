"""Write small stand-ins for the official archives, to rehearse the paper's scale.

They contain synthetic scenes in a dataset's raw layout. They have the same file names, number of
parts and inner folders as the official archives.
"""

import gzip
import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from decur import datasets
from decur.config import DatasetSettings
from decur.datasets import Archive, bigearthnet
from decur.scenes.draw import write_scenes

CHECKSUMS = "sha256sums.txt"
"""Name of the list of checksums beside the archives of a dataset."""

SCENES = {
    # SSL4EO-S12 has one split. 1 % of the labels of BigEarthNet and GeoNRW are two samples.
    "ssl4eo-s12": {"train": 31, "test": 1, "seed": 0},
    "bigearthnet": {"train": 200, "test": 20, "seed": 1},
    "geonrw": {"train": 208, "test": 32, "seed": 2},
    "sun-rgbd": {"train": 32, "test": 16, "seed": 3},
    "nyuv2": {"train": 32, "test": 16, "seed": 4},
}
SIDES = {"sun-rgbd": 64, "nyuv2": 64}
SIDE = 32

TOPS = {
    "BigEarthNet-S1-v1.0.tar.gz": bigearthnet.FOLDERS["sar"],
    "BigEarthNet-S2-v1.0.tar.gz": bigearthnet.FOLDERS["optical"],
    "SUNRGBD.zip": "SUNRGBD",
}
"""The raw folder in an archive, if the archive's `into` does not name it."""


def write_stand_ins(out: Path) -> list[Path]:
    """Write a folder of archives for each dataset of the paper, and the lists of their checksums.

    Args:
        out: the parent folder.

    Returns:
        The lists of checksums, `<out>/<dataset>/sha256sums.txt`.
    """
    return [write_stand_in(name, out / name) for name in SCENES]


def write_stand_in(name: str, out: Path) -> Path:
    """Write the archives of one dataset into `out`; return the list of their checksums."""
    side = SIDES.get(name, SIDE)
    tree = {"source": "scenes", "pixels": side, "scenes": SCENES[name]}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder)
        write_scenes(name, raw, DatasetSettings.model_validate(tree))
        (raw / "scenes.csv").unlink()  # official archives do not have the factors
        for archive in datasets.load(name).DATASET.archives:
            write_parts(archive, _packed(archive, raw), out)
    return write_checksums(out)


def _packed(archive: Archive, raw: Path) -> bytes:
    """Pack the files of a raw folder into the content of an archive."""
    if archive.kind == "file":
        return _plain(archive, raw)
    top = raw / TOPS.get(archive.parts[0].name, archive.into)
    # Member names are relative to `into`, unless folders are stripped from them.
    base = raw / archive.into if archive.into and not archive.strip else raw
    paths = sorted(path for path in top.rglob("*") if path.is_file())
    files = [(path.relative_to(base).as_posix(), path.read_bytes()) for path in paths]
    return tar(files) if archive.kind == "tar" else zipped(files)


def _plain(archive: Archive, raw: Path) -> bytes:
    """Return the content of a plain file; empty if the scenes have no such file."""
    name = archive.parts[0].name
    stem = name.removesuffix(".gz")
    if archive.splits == "seco":  # the same lists under other names
        stem = f"{stem.removeprefix('bigearthnet-').removesuffix('.txt')}.csv"
    path = raw / archive.into / stem
    body = path.read_bytes() if path.is_file() else b""
    return gzip.compress(body) if name.endswith(".gz") else body


def tar(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack files and their parent folders into a gzipped tar."""
    buffer = io.BytesIO()
    folders: set[str] = set()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as file:
        for name, body in files:
            for folder in reversed(Path(name).parents[:-1]):
                if str(folder) not in folders:
                    folders.add(str(folder))
                    info = tarfile.TarInfo(str(folder))
                    info.type = tarfile.DIRTYPE
                    file.addfile(info)
            info = tarfile.TarInfo(name)
            info.size = len(body)
            file.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def zipped(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack files into an uncompressed zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, body in files:
            file.writestr(name, body)
    return buffer.getvalue()


def write_parts(archive: Archive, body: bytes, out: Path) -> None:
    """Divide the bytes of an archive into its parts, all of about the same size."""
    count = len(archive.parts)
    cuts = [len(body) * i // count for i in range(count + 1)]
    for i, part in enumerate(archive.parts):
        (out / part.name).write_bytes(body[cuts[i] : cuts[i + 1]])


def write_checksums(folder: Path) -> Path:
    """Write the list that `sha256sum *` would print for a folder; return its path."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    return folder / CHECKSUMS
