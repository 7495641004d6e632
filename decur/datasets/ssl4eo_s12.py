"""Read SSL4EO-S12: 251,079 places in four seasons, Sentinel-1 and Sentinel-2 level 1C.

Layout: `s1/<location>/<scene>/{VV,VH}.tif` and `s2c/<location>/<scene>/{B1,...,B12}.tif`, where a
scene is one season. S1 and S2 of a location are a pair. Their scenes, each sorted by date, are from
the same season but not from the same day.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.config import DatasetSettings
from decur.datasets import Archive, Component, Dataset, Record, Records, RemoteFile, Streamed
from decur.datasets.raw_files import link, list_names, raw_files, stored_modalities
from decur.datasets.sentinel import METRES, OPTICAL, SAR_BANDS, read_optical, read_sar, sar_modality
from decur.errors import DecurError
from decur.imagery.rasters import Place, check_same_place, places
from decur.shards import Sample

# Checksums of the parts aa, ab, ... of the archives, as recorded by torchgeo.
SAR_PARTS = (
    "c875a430ed19c48fa90ea2574785069eb939629beec372b42d8ba283aa26d5e6",
    "517fe7eaa8a93b74ab8ea2cd5a8f65fb2130986266c7a702bcdd312afce2b396",
    "0146dd447d6f89d6bfe88fec05155df586f0b10643a50a7d9cf22c37edd1c3a2",
    "02871cc0d33356ad3d06f8a496d7f06d10121caa0e9078f095491bb8649f9d0d",
    "c4694fbba061ad89d4bfd1de2069b2a5cd19de2922d81f5a6364178d23948b61",
    "c7ba827f7b35f8bd974ee626eca55358da55830d85a29ecbfaa6e4bf70811bae",
    "e37fac95aa0e78fe418e392652cecb5dfff72b98b0d6996fdf9c824da254bccb",
    "1824079dfe4f844b0f6672582e296b74f25ffd5ae8c46ed92b70b08b7d5eb0e6",
    "b246750cdffe2c77dcea624c01aa5e6b53db73e33ce58082af4ce1fef5fb5b98",
    "6d3253bb0b294c4cf14fe8e4f09505d370e32be20b0bb8de3a829ce004154535",
)
OPTICAL_PARTS = (
    "1003dd0b4e11fdcca00855c3de23fa3209926c24074a36f40a07efeba377a9da",
    "96dd31b2d53e131daa73604013678e21dd2b29ff4865c73a24ada77001f77a7a",
    "23cb241e947de1da08bb9a53c6c9b088232bbf622c9aee2117e4b9bf8e93d83d",
    "e9502f21de324e6fc400c73af1a6486e1b75176c6511642763fb899537dada1e",
    "f47a7aaaeda7df30af9b892e54eb6c00941c706f82584c8c5b4481ee411e3e56",
    "207d2dc70378fc9c289b666fe1730821ec6dca0d2d6fb60d5325ba31b17de896",
    "060e01cc896e1ed3e426ff965ed6aba2538d065b398575968b0f1ae92f6ef8bc",
    "c32211630526dad919891d1a6aae82b7d82829f343f2176f04b37378b49d1f61",
    "a62a34fe0708885b4bd0dcc3d8e2a14c0c29737d94f744b41381d2a6618ff240",
    "a6206d4e40569b9e3b92eb4d5174193543980b6710b02f847d3629c50fd89d59",
    "5ae573daf729a0d32ad8d7998b78d91e4083289df1d4444feb4907b9091d9f03",
    "75ef65fdd931176ef82bc0d87dbd2c35202714499dfe7a3918bf48d01788538f",
)


def _archive(folder: str, checksums: tuple[str, ...], into: str) -> Archive:
    """Describe an archive on Hugging Face; each part has 48.3 GB, the last less.

    Its members are in one folder, which becomes `into` whatever its name.
    """
    host = "https://hf.co/datasets/wangyi111/SSL4EO-S12/resolve"
    commit = "3f5ddad68ba2ea29d019b0cef6cf292ff8af0d62"
    names = [f"{folder}.tar.gz.parta{chr(ord('a') + i)}" for i in range(len(checksums))]
    parts = (
        RemoteFile(name, (f"{host}/{commit}/{folder}/{name}",), checksum=f"sha256:{checksum}")
        for name, checksum in zip(names, checksums, strict=True)
    )
    page = "https://hf.co/datasets/wangyi111/SSL4EO-S12"
    return Archive(tuple(parts), "tar", into, strip=1, page=page)


VOID = "void_ids.csv"
VOID_LIST = RemoteFile(
    VOID,
    (
        "https://raw.githubusercontent.com/zhu-xlab/SSL4EO-S12/"
        f"2156913c5d8e5a2c572a5b000f0d5eaed6fc3192/data/{VOID}",
    ),
    679,
    "sha256:d86f0f8d037a8e0e274f44ceeb750ca1968549a933f87522ca7ad0fdbb0d1d13",
)

SAR_MEAN = (-12.54847273, -20.19237134)  # VV, VH in dB (released code)
SAR_STD = (5.25697717, 5.91150917)

DATASET = Dataset(
    name="ssl4eo-s12",
    title="SSL4EO-S12",
    modalities=(sar_modality(SAR_MEAN, SAR_STD), OPTICAL),
    licence="CC-BY-4.0",
    homepage="https://mediatum.ub.tum.de/1660427",
    archives=(
        _archive("s1_grd", SAR_PARTS, "s1"),
        _archive("s2_l1c", OPTICAL_PARTS, "s2c"),
        Archive((VOID_LIST,), "file", page="https://github.com/zhu-xlab/SSL4EO-S12"),
    ),
)

FOLDERS = {"sar": "s1", "optical": "s2c"}
GRID_OF = {"sar": "VV.tif", "optical": "B2.tif"}
SHIFT = 0.05  # of a location's width; the sensors' grids are up to 0.017 apart in the data


def scan(root: Path, settings: DatasetSettings) -> Records:
    """List the locations; one with a single sensor, or in the list of void ones, has a fault.

    Raises:
        DecurError: a folder is missing, or the list is damaged.
    """
    void = _void_ids(root / VOID)
    files = raw_files(root)
    seen = {name: set(files.names(root / folder)) for name, folder in FOLDERS.items()}

    def record(location: str) -> Record:
        paths = {name: root / folder / location for name, folder in FOLDERS.items()}
        missing = [path for name, path in paths.items() if location not in seen[name]]
        fault = f"{missing[0]}: not found, but the other sensor's folder exists" if missing else ""
        if location in void:
            fault = f"{paths['optical']}: its authors list the location as void in {VOID}"
        return Record(location, "train", paths, place=location, fault=fault)

    return Records(map(record, sorted(set.union(*seen.values()))))


def _void_ids(path: Path) -> frozenset[str]:
    """Read the seven-digit ids of locations without data; intact archives skip them."""
    if not path.is_file():
        return frozenset()
    ids = path.read_text(encoding="utf-8").split()
    if not all(number.isdecimal() for number in ids):
        raise DecurError(f"{path}: is not a list of numbers; fetch it again")
    return frozenset(number.zfill(7) for number in ids)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read the first `settings.seasons` scenes of each sensor.

    If a location has fewer scenes, they are repeated in turn. Every sample has the same shape, and
    no season is invented.

    Raises:
        DecurError: a location has no scenes; a file is missing, damaged, without data or of the
            wrong size or type; or a scene shows another place than the others.
    """
    return STREAMED.sample(record, settings)


def _shapes(settings: DatasetSettings) -> dict[str, tuple[int, ...]]:
    bands = {modality.name: len(modality.bands) for modality in DATASET.modalities}
    return {
        name: (settings.seasons, bands[name], settings.side, settings.side)
        for name in stored_modalities(DATASET, settings)
    }


def _components(record: Record, settings: DatasetSettings) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in stored_modalities(DATASET, settings)}


def _read_sensor(record: Record, name: str, settings: DatasetSettings) -> Component:
    scenes = _scenes(record.paths[name])[: settings.seasons]
    read_scene = {"sar": _read_sar, "optical": _read_optical}[name]
    images = [read_scene(scene, settings.side) for scene in scenes]
    seasons = np.stack([images[k % len(images)] for k in range(settings.seasons)])
    return Component({name: seasons}, {"places": places(s / GRID_OF[name] for s in scenes)})


def _join(record: Record, components: Mapping[str, Component], settings: DatasetSettings) -> Sample:
    found = [Place(*place) for c in components.values() for place in c.notes["places"]]
    check_same_place(found, SHIFT)
    return Sample(
        id=record.id,
        split=record.split,
        arrays={name: component.arrays[name] for name, component in components.items()},
        place=record.place,
        source=str(record.paths["optical"]),
    )


STREAMED = Streamed(_shapes, _components, _read_sensor, _join)


def _scenes(location: Path) -> list[Path]:
    scenes = [location / name for name in list_names(location)]
    if not scenes:
        raise DecurError(f"{location}: no scene in it; fetch the location again or remove it")
    return sorted(scenes, key=_acquired)


def _acquired(scene: Path) -> str:
    """Return the date and time of a scene's name, so that its satellite and tile do not sort it."""
    found = re.search(r"\d{8}T\d{6}", scene.name)
    if found is None:
        raise DecurError(f"{scene}: the folder name has no acquisition time (YYYYMMDDThhmmss)")
    return found[0]


def _read_sar(scene: Path, pixels: int) -> NDArray[np.uint8]:
    paths = {band: scene / f"{band}.tif" for band in SAR_BANDS}
    return read_sar(paths, pixels, SAR_MEAN, SAR_STD)


def _read_optical(scene: Path, pixels: int) -> NDArray[np.uint8]:
    return read_optical({band: scene / f"{band}.tif" for band in METRES}, pixels)


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample locations in the official layout."""
    for folder in FOLDERS.values():
        link(samples / "SSL4EO-S12" / folder, root / folder)
    link(samples / "SSL4EO-S12" / "metadata" / VOID, root / VOID)
