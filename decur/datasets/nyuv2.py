"""Read NYU-Depth v2: 1449 indoor frames of a Kinect, with 40 classes per pixel.

Layout: either the official `nyu_depth_v2_labeled.mat` with `classMapping40.mat`, or a folder of
images `{color,depth,label40}/0001.png` (depth in 16-bit millimetres). Both need the official
`splits.mat`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from decur.artifacts.files import check_readable
from decur.config import DatasetSettings
from decur.datasets import Archive, Dataset, Record, Records, RemoteFile
from decur.datasets.raw_files import link, list_names
from decur.datasets.rgbd import (
    CLASSES,
    IGNORE,
    MODALITIES,
    frame_arrays,
    label_mask,
    read_labels,
    spread_colours,
)
from decur.errors import DecurError
from decur.imagery.depth import nyu_intrinsics
from decur.imagery.images import MOST_PIXELS, check_labels, read_depth, read_image
from decur.shards import Sample

ARCHIVE = "nyu_depth_v2_labeled.mat"
MAPPING = "classMapping40.mat"
SPLITS = "splits.mat"
MOST_FRAMES = 10_000
MOST_BYTES = 100_000  # of a .mat; its compressed numbers may expand a thousandfold
THOUSAND = np.float32(1000)  # millimetres per metre

HOST = "http://horatio.cs.nyu.edu/mit/silberman"
META = "https://github.com/ankurhanda/nyuv2-meta-data"


def _file(name: str, url: str, md5: str, size: int, page: str = "") -> Archive:
    return Archive((RemoteFile(name, (url,), size, f"md5:{md5}"),), "file", page=page)


DATASET = Dataset(
    name="nyuv2",
    title="NYU-Depth v2 (RGB, HHA, 40 classes)",
    modalities=MODALITIES,
    licence="none stated; research use, cite the paper",
    homepage="https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
    classes=CLASSES,
    colours=spread_colours(len(CLASSES)),
    ignore=IGNORE,
    archives=(
        _file(
            ARCHIVE,
            f"{HOST}/nyu_depth_v2/{ARCHIVE}",
            "520609c519fba3ba5ac58c8fefcc3530",
            2_972_037_809,
        ),
        _file(
            SPLITS,
            f"{HOST}/indoor_seg_sup/{SPLITS}",
            "08e3c3aea27130ac7c01ffd739a4535f",
            2_626,
        ),
        _file(
            MAPPING,
            f"{META}/raw/b92d15c506876dada1ac4086938e30ebc4deb49b/{MAPPING}",
            "e377c88729dd63af81205ac9a8634a19",
            10_474,
            page=META,
        ),
    ),
)


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the frames below `root`, in the official split of 795 train and 654 test frames.

    A frame without its depth has a fault.

    Raises:
        DecurError: there are neither archive nor images, or a frame has no split or two splits.
    """
    if (root / ARCHIVE).is_file():
        mapping = {"archive": root / ARCHIVE, "mapping": root / MAPPING}
        frames = [(number, mapping) for number in range(1, _count(root / ARCHIVE) + 1)]
    else:
        colours = sorted((root / "color").glob("*.png"))
        frames = [(_number(path), _images(root, path)) for path in colours]
    if not frames:
        raise DecurError(f"{root}: neither {ARCHIVE} nor color/*.png; fetch the dataset there")
    splits = _splits(root / SPLITS)
    records = []
    for number, paths in sorted(frames, key=lambda frame: frame[0]):
        if number not in splits:
            raise DecurError(f"{root / SPLITS}: frame {number} is in no split; fetch it again")
        fault = ""
        if "color" in paths and not paths["depth"].is_file():
            fault = f"{paths['depth']}: not found, but {paths['color']} is; fetch it again"
        records.append(Record(f"{number:04d}", splits[number], paths, fault=fault))
    absent = splits.keys() - {number for number, _ in frames}
    return Records(records, {"listed in a split, but not there": len(absent)})


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one frame: rgb and hha uint8 `(1, 3, *pixels)`, and its mask 0..39 or `IGNORE`.

    Raises:
        DecurError: a file is damaged, files differ in size, or a label has no class.
    """
    paths, pixels = record.paths, settings.pixels
    if "archive" in paths:
        rgb, depth, measured, names = _frame(paths["archive"], int(record.id) - 1)
        missing, labels = measured == 0, _to_40(names, paths)
        source = paths["archive"]
    else:
        rgb, depth = read_image(paths["color"], "RGB"), read_depth(paths["depth"]) / THOUSAND
        missing, labels = None, read_labels(paths.get("label40"), depth.shape)
        source = paths["depth"]
    return Sample(
        id=record.id,
        split=record.split,
        arrays=frame_arrays(
            rgb, depth, nyu_intrinsics(depth.shape[1]), pixels, source, missing=missing
        ),
        mask=label_mask(labels, CLASSES, pixels, paths.get("label40", source)),
        source=str(paths.get("color", source)),
    )


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample frames 1..18 as images, with the official split.

    Only frame 1 has labels of the 40 classes.
    """
    frames = samples / "NYUDv2" / "AIM-SKKU_NYUDv2-IS"
    for split in ("train", "val"):
        for colour in list_names(frames / split / "color"):
            link(frames / split / "color" / colour, root / "color" / colour)
            depth = frames / "depth" / f"{int(Path(colour).stem):06d}.png"
            link(depth, root / "depth" / colour)
    first = samples / "NYUDv2" / "charlesCXK_RGBX_layout" / "NYUDepthv2" / "Label" / "0.png"
    link(first, root / "label40" / "0001.png")
    link(samples / "NYUDv2" / "meta_ankurhanda" / SPLITS, root / SPLITS)


def _count(archive: Path) -> int:
    with _open(archive) as file:
        count = len(_dataset(file, "images"))
        if count > MOST_FRAMES:
            raise ValueError(f"{count} frames cannot be")
        return count


def _frame(archive: Path, index: int) -> tuple[NDArray[Any], ...]:
    """Read one frame: colour (H, W, 3), depth and raw depth (H, W) in m, labels (H, W), 894 names.

    Only this frame is read. MATLAB stores columns first, so every array is read transposed.
    """
    with _open(archive) as file:
        keys = ("images", "depths", "rawDepths", "labels")
        return tuple(_dataset(file, key)[index].T for key in keys)


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """Return an array of the archive; its size must be plausible, and it must not be external."""
    array = file[key]
    hidden = isinstance(file.get(key, getlink=True), h5py.ExternalLink)
    if hidden or array.external or array.is_virtual:
        raise ValueError(f"'{key}' is stored in another file")
    if max(math.prod(array.shape[1:]), math.prod(array.chunks or ())) > MOST_PIXELS:
        raise ValueError(f"'{key}' has the impossible shape {array.shape}")
    return array


@contextmanager
def _open(archive: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(archive) as file:
            yield file
    except Exception as error:  # HDF5 and h5py raise many exception types for damaged files
        check_readable(archive)
        reason = " ".join(str(error).split())
        raise DecurError(f"{archive}: truncated or damaged ({reason}); fetch it again") from error


def _to_40(names: NDArray[Any], paths: dict[str, Path]) -> NDArray[np.uint8]:
    """Convert the archive's labels to 0..40; 0 is unlabelled in both."""
    mapping = _matlab(paths["mapping"], "mapClass").ravel()
    check_labels(names, len(mapping), paths["archive"])
    labels: NDArray[np.uint8] = np.concatenate([[0], mapping]).astype(np.uint8)[names]
    return labels


def _images(root: Path, colour: Path) -> dict[str, Path]:
    paths = {"color": colour, "depth": root / "depth" / colour.name}
    label = root / "label40" / colour.name
    return paths | ({"label40": label} if label.is_file() else {})


def _number(path: Path) -> int:
    if not path.stem.isdecimal():
        raise DecurError(
            f"{path}: name is not a frame number such as 0001.png; rename or remove it"
        )
    return int(path.stem)


def _splits(path: Path) -> dict[int, str]:
    """Read the split of each frame number, counted from 1."""
    keys = {"train": "trainNdxs", "test": "testNdxs"}
    splits: dict[int, str] = {}
    for split, key in keys.items():
        for number in _matlab(path, key).ravel().tolist():
            if splits.setdefault(number, split) != split:
                raise DecurError(f"{path}: frame {number} is in both splits; fetch it again")
    return splits


def _matlab(path: Path, key: str) -> NDArray[Any]:
    if not path.is_file():
        raise DecurError(f"{path}: not found; it comes with the dataset's toolbox")
    if path.stat().st_size > MOST_BYTES:
        raise DecurError(f"{path}: is implausibly large; fetch it again")
    try:
        array: NDArray[Any] = scipy.io.loadmat(path, variable_names=[key])[key]
    except Exception as error:  # many types for damaged files
        check_readable(path)
        reason = " ".join(str(error).split())
        raise DecurError(f"{path}: no '{key}' can be read ({reason}); fetch it again") from error
    if not np.issubdtype(array.dtype, np.integer):
        raise DecurError(f"{path}: '{key}' is {array.dtype}, expected integers; fetch it again")
    return array
