"""Made-up datasets of any size, packed like the official archives.

Every image is one of a few small ones under another name, so that a million files are written in a
minute; they have no meaning.
"""

import gzip
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from decur import datasets
from decur.datasets import Archive
from decur.scenes.stand_ins import write_checksums
from tests.support.bigearthnet import PASTURE, make_patch
from tests.support.geonrw import write_tile
from tests.support.ssl4eo import make_location
from tests.support.sun_rgbd import write_frame, write_label

Members = Iterator[tuple[str, bytes]]

FILES = {"ssl4eo-s12": 60, "bigearthnet": 16, "geonrw": 3, "sun-rgbd": 5}
"""Files of a location, a pair of patches, a tile, a frame."""


def write_official(
    name: str, out: Path, files: int, template: Callable[[Path], object] | None = None
) -> Path:
    """Write the archives of a dataset, with about so many files in them, into `out`.

    Args:
        name: the dataset.
        out: the folder.
        files: how many files.
        template: writes the one sample, or tile, whose copies they are, into a raw folder, under
            the names that `TEMPLATES` give it.

    Returns:
        The list of their checksums.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (template or TEMPLATES[name])(Path(folder))
        members = MEMBERS[name](Path(folder), max(1, files // FILES[name]))
        for archive in datasets.load(name).DATASET.archives:
            if archive.splits in ("", "official"):
                first = archive.parts[0].name
                _write(archive, members[first](), out)
    return write_checksums(out)


def _write(archive: Archive, members: Members, out: Path) -> None:
    """Write an archive member by member, in parts of equal size."""
    with tempfile.TemporaryFile(dir=out) as whole:
        if archive.kind == "file":
            whole.write(b"".join(body for _, body in members))
        elif archive.kind == "zip":
            with zipfile.ZipFile(whole, "w") as file:
                for path, body in members:
                    file.writestr(path, body)
        else:
            with (
                gzip.GzipFile(fileobj=whole, mode="wb", compresslevel=1) as zipped,
                tarfile.open(fileobj=zipped, mode="w|") as tar,
            ):
                for path, body in members:
                    info = tarfile.TarInfo(path)
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
                    tar.members.clear()
        size, count = whole.tell(), len(archive.parts)
        whole.seek(0)
        for number, part in enumerate(archive.parts, start=1):
            with (out / part.name).open("wb") as cut:
                while whole.tell() < size * number // count:
                    cut.write(whole.read(min(1 << 20, size * number // count - whole.tell())))


def _contents(root: Path) -> list[tuple[str, bytes]]:
    """Files below a folder, sorted by path."""
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.relative_to(root).as_posix(), path.read_bytes()) for path in found]


def _copies(files: Iterable[tuple[str, bytes]], old: str, new: Iterable[str]) -> Members:
    """The files once for each new name in place of the old one, in paths and texts."""
    kept = list(files)
    for name in new:
        for path, body in kept:
            text = path.endswith(".json")
            yield (
                path.replace(old, name),
                body.replace(old.encode(), name.encode()) if text else body,
            )


def _ssl4eo_s12(root: Path, count: int) -> dict[str, Callable[[], Members]]:
    files = _contents(root)
    names = [f"{number:07d}" for number in range(count)]

    def of(folder: str) -> Callable[[], Members]:
        return lambda: _copies((f for f in files if f[0].startswith(folder)), "LOCATION", names)

    return {
        "s1_grd.tar.gz.partaa": of("s1/"),
        "s2_l1c.tar.gz.partaa": of("s2c/"),
        "void_ids.csv": lambda: iter(()),
    }


def _bigearthnet(root: Path, count: int) -> dict[str, Callable[[], Members]]:
    files, place = _contents(root), "_".join(PASTURE.split("_")[-2:])
    places = [f"{number}_{number % 90}" for number in range(count)]
    patches = [PASTURE.replace(place, new) for new in places]
    third = -(-count // 3)
    lists = {"train": patches[:third], "val": patches[third : 2 * third]}
    lists["test"] = patches[2 * third :]

    def of(folder: str) -> Callable[[], Members]:
        return lambda: _copies((f for f in files if f[0].startswith(folder)), place, places)

    def listed(names: Iterable[str]) -> Callable[[], Members]:
        return lambda: iter([("", "".join(f"{name}\r\n" for name in names).encode())])

    empty = [("", gzip.compress(b""))]
    return {
        "BigEarthNet-S1-v1.0.tar.gz": of("BigEarthNet-S1"),
        "BigEarthNet-S2-v1.0.tar.gz": of("BigEarthNet-v1.0"),
        **{f"{split}.csv": listed(names) for split, names in lists.items()},
        "patches_with_seasonal_snow.csv.gz": lambda: iter(empty),
        "patches_with_cloud_and_shadow.csv.gz": lambda: iter(empty),
    }


def _geonrw(root: Path, count: int) -> dict[str, Callable[[], Members]]:
    files = _contents(root)

    def tiles() -> Members:
        for number in range(count):
            city = "neuss" if number % 10 == 0 else "aachen"
            for path, body in files:
                yield path.replace("CITY", city).replace("CORNER", f"{number}_5650"), body

    return {"nrw_dataset.tar.gz": tiles}


def _sun_rgbd(root: Path, count: int) -> dict[str, Callable[[], Members]]:
    files = _contents(root)
    frames = [f for f in files if f[0].startswith("SUNRGBD")]
    ((_, mask),) = (f for f in files if f[0].startswith("labels"))
    names = [f"{number:06d}" for number in range(count)]

    def listed(some: Iterable[str]) -> Callable[[], Members]:
        lines = (f"SUNRGBD/kv1/b3dodata/{name}/image/0001.jpg\n" for name in some)
        return lambda: iter([("", "".join(lines).encode())])

    return {
        "SUNRGBD.zip": lambda: _copies(frames, "FRAME", names),
        "sunrgbd_testing_images.txt": listed(names[: count // 2]),
        "sunrgbd_training_images.txt": listed(names[count // 2 :]),
        "sunrgbd_train_test_labels.tar.gz": lambda: (
            (f"img-{number:06d}.png", mask) for number in range(1, count + 1)
        ),
    }


def _frame(root: Path) -> None:
    write_frame(root, "SUNRGBD/kv1/b3dodata/FRAME")
    write_label(root, 0, np.ones((48, 64), np.uint8))


def _location(root: Path) -> None:
    make_location(root, "LOCATION", ("0101", "0401", "0701", "1001"), "ABAB")


def _tile(root: Path) -> None:
    write_tile(root, "CITY", "CORNER")


TEMPLATES: dict[str, Callable[[Path], object]] = {
    "ssl4eo-s12": _location,
    "bigearthnet": make_patch,
    "geonrw": _tile,
    "sun-rgbd": _frame,
}

MEMBERS = {
    "ssl4eo-s12": _ssl4eo_s12,
    "bigearthnet": _bigearthnet,
    "geonrw": _geonrw,
    "sun-rgbd": _sun_rgbd,
}
