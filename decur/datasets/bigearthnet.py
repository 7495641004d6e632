"""Read BigEarthNet-MM v1.0: 590,326 patches of ten European countries with CORINE land cover.

Layout: `BigEarthNet-S1-v1.0/<S1 patch>/` and `BigEarthNet-v1.0/<S2 patch>/`, with one GeoTIFF per
band and one JSON per patch; the JSON of S1 names its S2 patch. The lists in `splits/` may be
compressed (.gz, .bz2). The 43 CORINE classes of the files become the 19 of the BigEarthNet-MM
paper.
"""

import bz2
import gzip
import json
import re
from collections.abc import Callable, Mapping
from itertools import starmap
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.config.datasets import UNLISTED
from decur.datasets import (
    Archive,
    Component,
    Dataset,
    Record,
    Records,
    RemoteFile,
    Streamed,
)
from decur.datasets.raw_files import link, raw_files, stored_modalities
from decur.datasets.sentinel import METRES, OPTICAL, SAR_BANDS, read_optical, read_sar, sar_modality
from decur.errors import DecurError
from decur.imagery.rasters import Place, check_same_place, places
from decur.imagery.source import read_bytes
from decur.shards import Sample

FOLDERS = {"sar": "BigEarthNet-S1-v1.0", "optical": "BigEarthNet-v1.0"}
SPLITS = ("train", "val", "test")
PRECEDENCE = ("val", "test", "train")
"""Which split gets a patch that is in several lists, first match; results are reported on "val"."""

LISTS = {"official": "{}.csv", "seco": "bigearthnet-{}.txt"}
"""Names of the split lists; SeCo's include the patches with snow and clouds."""

EXCLUDED = ("patches_with_seasonal_snow.csv", "patches_with_cloud_and_shadow.csv")
HIDDEN = "under snow, clouds or shadow"
SAR_MEAN = (-12.59, -19.22)  # VV, VH in dB (released code)
SAR_STD = (5.04, 5.42)

CORINE: dict[str, tuple[str, ...]] = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": (
        "Non-irrigated arable land",
        "Permanently irrigated land",
        "Rice fields",
    ),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": (
        "Natural grassland",
        "Sparsely vegetated areas",
    ),
    "Moors, heathland and sclerophyllous vegetation": (
        "Moors and heathland",
        "Sclerophyllous vegetation",
    ),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}
"""The 19 classes in label order, each with the CORINE classes that it merges."""

DROPPED = (
    "Road and rail networks and associated land",
    "Port areas",
    "Airports",
    "Mineral extraction sites",
    "Dump sites",
    "Construction sites",
    "Green urban areas",
    "Sport and leisure facilities",
    "Bare rock",
    "Burnt areas",
    "Intertidal flats",
)
"""CORINE classes outside the 19 classes; a patch may be left without any label."""

ZENODO = "https://zenodo.org/records/12687186/files"
GIT = (
    "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/"
    "9a5be07346ab0884b2d9517475c27ef9db9b5104/splits"
)


SECO = "https://storage.googleapis.com/remote_sensing_representations"


def _list(url: str, checksum: str | None = None, splits: str = "") -> Archive:
    """Describe a list of patches; bigearth.net, the former host of two lists, is offline."""
    page, name = url.rsplit("/", 1)
    return Archive(
        (RemoteFile(name, (url,), checksum=checksum),), "file", "splits", 0, page, splits
    )


METADATA = "_labels_metadata.json"


def _patches(name: str, md5: str, scanned: str = "") -> Archive:
    part = RemoteFile(name, (f"{ZENODO}/{name}",), checksum=f"md5:{md5}")
    return Archive((part,), "tar", scanned=scanned)


DATASET = Dataset(
    name="bigearthnet",
    title="BigEarthNet-MM",
    modalities=(sar_modality(SAR_MEAN, SAR_STD), OPTICAL),
    licence="CDLA-Permissive-1.0",
    homepage="https://zenodo.org/records/12687186",
    classes=tuple(CORINE),
    evaluation="val",
    archives=(
        _patches("BigEarthNet-S1-v1.0.tar.gz", "94ced73440dea8c7b9645ee738c5a172", METADATA),
        _patches("BigEarthNet-S2-v1.0.tar.gz", "5a64e9ce38deb036a435a7b59494924c"),
        _list(f"{GIT}/train.csv", "md5:623e501b38ab7b12fe44f0083c00986d", "official"),
        _list(f"{GIT}/val.csv", "md5:22efe8ed9cbd71fa10742ff7df2b7978", "official"),
        _list(f"{GIT}/test.csv", "md5:697fb90677e30571b9ac7699b7e5b432", "official"),
        *(_list(f"{SECO}/bigearthnet-{split}.txt", None, "seco") for split in SPLITS),
        _list(f"{ZENODO}/patches_with_seasonal_snow.csv.gz"),  # no published checksum is known
        _list(f"{ZENODO}/patches_with_cloud_and_shadow.csv.gz"),
    ),
)

Value = TypeVar("Value", str, list[Any])

_POSITION = {corine: k for k, joined in enumerate(CORINE.values()) for corine in joined}


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the pairs of patches in their splits, without those of the snow and cloud lists.

    A patch has a fault if its partner is missing, or if the file that names it is damaged. A patch
    in no list is "unlisted"; without any official list, all patches are "train". A patch in several
    lists gets one split: that of the evaluation, else the test split.

    Raises:
        DecurError: a folder is missing, only some of the official lists exist, SeCo's lists are
            missing, or the snow and cloud lists are missing and their patches are not kept.
    """
    files = raw_files(root)
    sar_patches, optical_patches = (files.names(root / folder) for folder in FOLDERS.values())
    optical = set(optical_patches)
    split_of, repeated = _splits(root / "splits", settings.splits)
    other = UNLISTED if split_of else "train"
    excluded = set() if settings.snow_and_clouds == "keep" else _excluded(root / "splits")
    pairs, seen, hidden = [], set(), 0  # pairs: the optical patch, that of SAR, the fault
    for patch in sar_patches:
        sar, fault = root / FOLDERS["sar"] / patch, ""
        try:
            partner = _read_json(sar, "corresponding_s2_patch", str, files.read)
        except DecurError as error:
            partner, fault = patch, str(error)
        if partner in excluded:
            hidden += 1
            continue
        seen.add(partner)
        if not fault and partner not in optical:
            fault = f"{sar}: its partner {partner} is not in {FOLDERS['optical']}"
        pairs.append((partner, patch, fault))
    for patch in optical - seen - excluded:
        path = root / FOLDERS["optical"] / patch
        pairs.append((patch, "", f"{path}: no patch in {FOLDERS['sar']} has it as its partner"))
    pairs.sort(key=lambda pair: pair[0])

    def record(partner: str, patch: str, fault: str) -> Record:
        paths = {"sar": root / FOLDERS["sar"] / patch} if patch else {}
        paths |= {"optical": root / FOLDERS["optical"] / partner}
        tile = re.search(r"_(\d\d[A-Z]{3})_", patch)  # a Sentinel-2 tile, 110 km wide
        split = split_of.get(partner, other)
        return Record(partner, split, paths, place=tile[1] if tile else "", fault=fault)

    left_out = {
        HIDDEN: hidden,
        "in a second split, which lists them too": len(repeated & seen),
        "listed in a split, but not there": len(split_of.keys() - seen - excluded),
    }
    return Records(starmap(record, pairs), left_out)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one pair of patches with its 19-class label vector.

    Raises:
        DecurError: a file is missing, damaged, without data or of the wrong size, type or place, or
            a label is unknown.
    """
    return STREAMED.sample(record, settings)


def shapes(settings: DatasetSettings) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the stored arrays, in v1.0 and v2.0; see `Streamed`."""
    bands = {modality.name: len(modality.bands) for modality in DATASET.modalities}
    return {
        name: (1, bands[name], settings.side, settings.side)
        for name in stored_modalities(DATASET, settings)
    }


def read_sensor(record: Record, name: str, settings: DatasetSettings) -> Component:
    """Read one sensor's image, uint8 (1, bands, pixels, pixels), and its place, of v1.0 or v2.0.

    It is resized bicubically, as the released code resizes 120 to 128 pixels.

    Raises:
        DecurError: a file is missing, damaged, without data or of the wrong size or type.
    """
    patch = record.paths[name]
    if name == "sar":
        paths = {band: patch / f"{patch.name}_{band}.tif" for band in SAR_BANDS}
        image = read_sar(paths, settings.side, SAR_MEAN, SAR_STD, "bicubic")
    else:
        # Level 2A has no B10, so the network's channel for it stays zero (released code).
        paths = {
            band: patch / f"{patch.name}_B{band[1:].zfill(2)}.tif"
            for band in METRES
            if band != "B10"
        }
        image = read_optical(paths, settings.side, "bicubic")
    grid = paths["VV" if name == "sar" else "B2"]
    return Component({name: image[None]}, {"places": places([grid])})


def join_pair(
    record: Record,
    components: Mapping[str, Component],
    settings: DatasetSettings,
    labels: NDArray[np.uint8],
) -> Sample:
    """Join a pair of patches into a sample, of v1.0 or v2.0.

    Raises:
        DecurError: the patches lie in different places.
    """
    check_same_place(Place(*place) for c in components.values() for place in c.notes["places"])
    names = stored_modalities(DATASET, settings)
    return Sample(
        id=record.id,
        split=record.split,
        arrays={name: components[name].arrays[name] for name in names},
        labels=labels,
        place=record.place,
        source=str(record.paths["optical"]),
    )


def _components(record: Record, settings: DatasetSettings) -> dict[str, tuple[str, ...]]:
    names = dict.fromkeys((*stored_modalities(DATASET, settings), "optical"))  # has the labels
    return {name: (name,) for name in names}


def _read_component(record: Record, name: str, settings: DatasetSettings) -> Component:
    if name == "sar":
        return read_sensor(record, name, settings)
    labels = _label_vector(record.paths[name])
    component = read_sensor(record, name, settings)
    return Component(component.arrays, {**component.notes, "labels": labels.tolist()})


def _join(record: Record, components: Mapping[str, Component], settings: DatasetSettings) -> Sample:
    labels = np.array(components["optical"].notes["labels"], np.uint8)
    return join_pair(record, components, settings, labels)


STREAMED = Streamed(shapes, _components, _read_component, _join)


def _label_vector(patch: Path) -> NDArray[np.uint8]:
    vector = np.zeros(len(CORINE), np.uint8)
    for label in _read_json(patch, "labels", list):
        if isinstance(label, str) and label in _POSITION:
            vector[_POSITION[label]] = 1
        elif label not in DROPPED:
            raise DecurError(
                f"{patch}: label {label!r} is not a CORINE class; use BigEarthNet v1.0"
            )
    return vector


def _read_json(
    patch: Path, key: str, kind: type[Value], read: Callable[[Path], bytes] = read_bytes
) -> Value:
    path = patch / f"{patch.name}{METADATA}"
    try:
        value = json.loads(read(path))[key]
    except KeyError:
        raise DecurError(f"{path}: has no '{key}'; fetch the file again") from None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise DecurError(f"{path}: cannot be read ({error}); fetch the file again") from error
    if not isinstance(value, kind):
        raise DecurError(f"{path}: '{key}' is {value!r:.40}, expected a {kind.__name__}")
    return value


def _excluded(folder: Path) -> set[str]:
    """Read the patches under snow, clouds or shadow; both lists must exist, even if empty."""
    patches: set[str] = set()
    for name in EXCLUDED:
        listed = _read_list(folder, name)
        if listed is None:
            raise DecurError(
                f"{folder / name}: not found, neither as is nor as .gz or .bz2; get it from "
                f"{ZENODO}/{name}.gz, or set `snow_and_clouds: keep`, which changes the results"
            )
        patches.update(listed)
    return patches


def _splits(folder: Path, kind: str) -> tuple[dict[str, str], set[str]]:
    """Return the split of each patch, and the patches that several splits contain."""
    names = {split: LISTS[kind].format(split) for split in SPLITS}
    lists = {split: _read_list(folder, name) for split, name in names.items()}
    missing = [names[split] for split, patches in lists.items() if patches is None]
    if missing and (kind == "seco" or len(missing) < len(SPLITS)):
        raise DecurError(f"{folder / missing[0]}: not found; the split needs all three lists")
    split_of: dict[str, str] = {}
    repeated = set()
    for split in PRECEDENCE:
        for patch in lists[split] or ():
            if split_of.setdefault(patch, split) != split:
                repeated.add(patch)
    return split_of, repeated


def _read_list(folder: Path, name: str) -> list[str] | None:
    """Read the S2 patches of a list, whose second column may be S1 patches; None if missing."""
    for suffix, reader in (("", open), (".gz", gzip.open), (".bz2", bz2.open)):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            with reader(path, "rt") as file:
                patches = (line.split(",")[0].strip() for line in file)
                return [patch for patch in patches if patch]
    return None


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample patches and the official lists in the official layout."""
    for folder in (*FOLDERS.values(), "splits"):
        link(samples / "BigEarthNet" / "v1.0" / folder, root / folder)
