"""Read SUN-RGBD: indoor frames of four depth cameras, with 37 classes per pixel.

Official layout: `SUNRGBD/<sensor>/<source>/<frame>/{image,depth,depth_bfx}/` with `intrinsics.txt`.
The order of the two lists in `meta/` numbers the label images `labels/img-000001.png`, test first.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from decur.config import DatasetSettings
from decur.datasets import Archive, Component, Dataset, Record, Records, RemoteFile, Streamed
from decur.datasets.raw_files import RawFiles, below, link, list_names, raw_files
from decur.datasets.rgbd import (
    CLASSES,
    IGNORE,
    MODALITIES,
    frame_arrays,
    label_mask,
    spread_colours,
)
from decur.errors import DecurError
from decur.imagery.depth import decode_sun_depth, read_intrinsics
from decur.imagery.images import read_depth, read_image
from decur.shards import MASK, Sample

LISTS = {"test": "sunrgbd_testing_images.txt", "train": "sunrgbd_training_images.txt"}
LABELLED = 37  # the other three classes of NYUv2 are not used

LABELS = "sunrgbd_train_test_labels.tar.gz"
EXTRACTED = "https://github.com/ankurhanda/sunrgbd-meta-data"
"""Lists and labels extracted from the toolbox, whose own file takes 64 GB of memory to read."""


def _extracted(name: str, md5: str | None = None) -> RemoteFile:
    commit = "ddd3fee2b5805502ea4ffa6b964e9cb46c6ba190"
    checksum = f"md5:{md5}" if md5 else None
    return RemoteFile(name, (f"{EXTRACTED}/raw/{commit}/{name}",), checksum=checksum)


# No published checksum of the frames or of the labels is known.
FRAMES = RemoteFile("SUNRGBD.zip", ("https://rgbd.cs.princeton.edu/data/SUNRGBD.zip",))
TEST_LIST = _extracted(LISTS["test"], "08a7b17a940d0e5fee86f2299b5cc76f")
TRAIN_LIST = _extracted(LISTS["train"], "9b00620022574a3135272bbc3cf38e82")

DATASET = Dataset(
    name="sun-rgbd",
    title="SUN-RGBD (RGB, HHA, 37 classes)",
    modalities=MODALITIES,
    licence="none stated; research use, cite the paper",
    homepage="https://rgbd.cs.princeton.edu",
    classes=CLASSES[:LABELLED],
    colours=spread_colours(LABELLED),
    ignore=IGNORE,
    archives=(
        Archive((FRAMES,), "zip"),
        Archive((TEST_LIST,), "file", "meta", page=EXTRACTED),
        Archive((TRAIN_LIST,), "file", "meta", page=EXTRACTED),
        Archive((_extracted(LABELS),), "tar", "labels", page=EXTRACTED),
    ),
)


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the frames below `root` in the order of the official lists, or by path without lists.

    A frame has a fault if it is incomplete or listed twice.

    Raises:
        DecurError: there is no frame, or only one of the two lists.
    """
    files = raw_files(root)
    frames = _listed(root) or [("train", path) for path in _images(root, files)]
    if not frames:
        raise DecurError(f"{root}: no frame in SUNRGBD/; extract SUNRGBD.zip there")
    seen: dict[Path, str] = {}

    def record(number: int, split: str, image: Path) -> Record:
        found = _record(root, files, number, split, image)
        first = seen.setdefault(image, found.id)
        if first != found.id:  # possibly in the other split
            fault = f"{image}: listed as {first} and {found.id}"
            return dataclasses.replace(found, fault=fault)
        return found

    return Records(record(number, *frame) for number, frame in enumerate(frames, start=1))


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one frame: rgb and hha uint8 `(1, 3, *pixels)`, and its mask 0..36 or `IGNORE`.

    HHA is made from the in-painted depth. Pixels that the sensor did not measure are not used for
    the plane fits that give its normals.

    Raises:
        DecurError: a file is damaged, files differ in size, or a label is above 37.
    """
    return STREAMED.sample(record, settings)


def _shapes(settings: DatasetSettings) -> dict[str, tuple[int, ...]]:
    side = settings.pixels
    height, width = (side, side) if isinstance(side, int) else side
    stored = {modality.name: (1, 3, height, width) for modality in MODALITIES}
    return {**stored, MASK: (height, width)}


def _components(record: Record, settings: DatasetSettings) -> dict[str, tuple[str, ...]]:
    frame = ("image", "depth", "measured", "intrinsics")
    return {"frame": frame} | ({"labels": ("labels",)} if "labels" in record.paths else {})


def _read_component(record: Record, name: str, settings: DatasetSettings) -> Component:
    paths, pixels = record.paths, settings.pixels
    if name == "labels":
        labels = read_image(paths["labels"], labels=True)
        mask = label_mask(labels, DATASET.classes, pixels, paths["labels"])
        return Component({MASK: mask}, {"shape": labels.shape})
    rgb = read_image(paths["image"], "RGB")
    depth, measured = (decode_sun_depth(read_depth(paths[name])) for name in ("depth", "measured"))
    if measured.shape != depth.shape:
        raise DecurError(
            f"{paths['measured']}: is {measured.shape}, but the in-painted depth is {depth.shape}"
        )
    camera = read_intrinsics(paths["intrinsics"])
    arrays = frame_arrays(rgb, depth, camera, pixels, paths["depth"], missing=measured == 0)
    return Component(arrays, {"shape": depth.shape})


def _join(record: Record, components: Mapping[str, Component], settings: DatasetSettings) -> Sample:
    frame, labels = components["frame"], components.get("labels")
    if labels is None:
        mask = np.full(_shapes(settings)[MASK], IGNORE, np.uint8)
    else:
        mask = labels.arrays[MASK]
        shape, expected = tuple(labels.notes["shape"]), tuple(frame.notes["shape"])
        if shape != expected:
            path = record.paths["labels"]
            raise DecurError(f"{path}: labels are {shape}, but their colour image is {expected}")
    return Sample(
        id=record.id,
        split=record.split,
        arrays=frame.arrays,
        mask=mask,
        place=record.place,
        source=str(record.paths["image"]),
    )


STREAMED = Streamed(_shapes, _components, _read_component, _join)


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample frames: two in the official layout, thirty more of the Kinect v2.

    The thirty frames are not numbered as in the official lists, so there are no lists and no
    labels. Their camera is that of the Kinect v2 frame.
    """
    toy = samples / "SUNRGBD" / "sunrgbd-toy" / "images"
    kinect = root / "SUNRGBD" / "kv2"
    homes = {"img_0063": root / "SUNRGBD" / "kv1" / "b3dodata"}
    for frame in list_names(toy):
        home = homes.get(frame, kinect / "align_kv2") / frame
        for part in ("image", "depth", "depth_bfx"):
            for file in (toy / frame / part).iterdir():
                link(file, home / part / file.name)
        link(toy / frame / "intrinsics.txt", home / "intrinsics.txt")
    (camera,) = (toy / frame / "intrinsics.txt" for frame in list_names(toy) if frame not in homes)
    more = samples / "SUNRGBD" / "AIM-SKKU_SUN-RGBD-IS"
    for split in ("train", "val"):
        for colour in list_names(more / split / "color"):
            number = f"{int(Path(colour).stem):06d}"
            home = kinect / "kinect2data" / number
            link(more / split / "color" / colour, home / "image" / f"{number}.jpg")
            for part, origin in (("depth", "depth_raw"), ("depth_bfx", "depth")):
                source = more / f"{split}_{origin}" / f"{number}.png"
                link(source, home / part / f"{number}.png")
            link(camera, home / "intrinsics.txt")


def _listed(root: Path) -> list[tuple[str, Path]]:
    """Read the split and image of every line of the two lists; empty if both are missing."""
    lists = {split: root / "meta" / name for split, name in LISTS.items()}
    if not any(path.is_file() for path in lists.values()):
        return []
    frames = []
    for split, path in lists.items():
        if not path.is_file():
            raise DecurError(f"{path}: not found; the official order needs both lists")
        lines = path.read_text(encoding="utf-8").split("\n")
        frames += [(split, below(root, line.strip(), path)) for line in lines if line.strip()]
    return frames


def _images(root: Path, files: RawFiles) -> list[Path]:
    """Find the colour images of all frames, sorted by path."""
    found = files.walk(root / "SUNRGBD")
    return sorted(p for p in found if p.parent.name == "image" and p.suffix == ".jpg")


def _depths(folder: Path, files: RawFiles) -> list[Path]:
    if not files.is_folder(folder):
        return []
    return [folder / name for name in files.names(folder) if name.endswith(".png")]


def _record(root: Path, files: RawFiles, number: int, split: str, image: Path) -> Record:
    frame = image.parent.parent
    paths = {"image": image, "intrinsics": frame / "intrinsics.txt"}
    fault = "" if files.is_file(image) else f"{image}: listed but not found; extract it again"
    for name, folder in (("depth", "depth_bfx"), ("measured", "depth")):
        found = _depths(frame / folder, files)
        if len(found) == 1:
            paths[name] = found[0]
        elif not fault:
            fault = f"{frame / folder}: {len(found)} PNG files, expected one; extract it again"
    name = f"img-{number:06d}"
    labels = root / "labels" / f"{name}.png"
    if files.is_file(labels):
        paths["labels"] = labels
    place = "/".join(frame.relative_to(root).parts[1:3])  # sensor and source
    return Record(name, split, paths, place=place, fault=fault)
