"""Write synthetic scenes as the raw files and folders of the dataset that they replace.

A layout writes one unit of scenes (a location, a tile of 16, a frame) and names its samples.
`LAYOUTS` has one per dataset. Values are in the dataset's own units, so its module reads them like
the real ones.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
import scipy.io
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from decur.config import DatasetSettings
from decur.datasets import bigearthnet, geonrw, nyuv2, sun_rgbd
from decur.datasets.sentinel import METRES, SAR_BANDS
from decur.imagery.depth import nyu_intrinsics
from decur.scenes.render import LEVELS, Factors

Arrays = dict[str, NDArray[Any]]

TILE = geonrw.GRID**2
TRAIN_CITIES = ("aachen", "bochum", "dortmund", "essen", "koeln", "muenster")
SEASONS = ("0315", "0615", "0915", "1215")
DEGREES, UTM32, UTM33 = (CRS.from_epsg(code) for code in (4326, 25832, 32633))


@dataclass(frozen=True)
class Scene:
    """Describe a scene to write: its number over all scenes, its split and its rendered arrays."""

    index: int
    split: str
    factors: Factors
    arrays: Arrays


class Layout(ABC):
    """Write samples in a dataset's format, `unit` scenes at a time, from any process."""

    unit = 1

    @abstractmethod
    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        """Return the ids of the samples made from the scenes of one unit."""

    @abstractmethod
    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        """Write one unit."""

    def finish(  # noqa: B027  # most datasets have nothing to write at the end
        self, ids: dict[str, list[str]], root: Path
    ) -> None:
        """Write files about all scenes, if there are any; `ids` are by split, in order."""


class _Ssl4eo(Layout):
    """Write `s1/<location>/<scene>/VV.tif` and `s2c/.../B1.tif`, one scene per season."""

    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        return [f"{number:07d}" for number in numbers]

    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        (scene,) = scenes
        place = f"{scene.index:07d}"
        pixel = 1e-4
        for season, day in enumerate(SEASONS[: settings.seasons]):
            s1 = f"S1A_IW_GRDH_1SDV_2020{day}T054639_2020{day}T054704_032904_03CFBA_D457"
            folder = _new(root / "s1" / place / s1)
            for band, image in zip(SAR_BANDS, scene.arrays["sar"][season], strict=True):
                _tif(folder / f"{band}.tif", image, 7.0, 51.0, pixel, DEGREES)
            folder = _new(root / "s2c" / place / f"2020{day}T104031_2020{day}T104542_T32ULC")
            for band, image in optical_bands(scene, season).items():
                size = pixel * METRES[band] / 10
                _tif(folder / f"{band}.tif", image, 7.0, 51.0, size, DEGREES)


class _BigEarthNet(Layout):
    """Write `BigEarthNet-S1-v1.0/<patch>/` and `BigEarthNet-v1.0/<patch>/`, with label files."""

    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        return [self._patch(number)[1] for number in numbers]

    @staticmethod
    def _patch(index: int) -> tuple[str, str, int, int]:
        """Return the names of the S1 and S2 patch, and its row and column on the ground."""
        number, column = divmod(index, 90)
        day, row = divmod(number, 90)
        date = f"2017{6 + day // 28:02d}{1 + day % 28:02d}"
        s1 = f"S1A_IW_GRDH_1SDV_{date}T165043_33UUP_{row}_{column}"
        return s1, f"S2A_MSIL2A_{date}T101031_{row}_{column}", row, column

    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        (scene,) = scenes
        s1, s2, row, column = self._patch(scene.index)
        east, north = 300_000 + 1200 * row, 5_400_000 - 1200 * column
        facts: dict[str, Any] = {"labels": corine_labels(scene.factors)}

        folder = _new(root / bigearthnet.FOLDERS["sar"] / s1)
        for band, image in zip(SAR_BANDS, scene.arrays["sar"][0], strict=True):
            _tif(folder / f"{s1}_{band}.tif", image, east, north, 10, UTM33)
        text = json.dumps(facts | {"corresponding_s2_patch": s2})
        (folder / f"{s1}_labels_metadata.json").write_text(text, encoding="utf-8")

        folder = _new(root / bigearthnet.FOLDERS["optical"] / s2)
        for band, image in optical_bands(scene, 0).items():
            if band != "B10":  # not in level 2A
                name = band if band == "B8A" else f"B{int(band[1:]):02d}"
                size = METRES[band]
                _tif(folder / f"{s2}_{name}.tif", image, east, north, size, UTM33)
        (folder / f"{s2}_labels_metadata.json").write_text(json.dumps(facts), encoding="utf-8")

    def finish(self, ids: dict[str, list[str]], root: Path) -> None:
        """Write the split lists; test scenes go to "val", on which results are reported.

        The lists of snow and clouds are empty.
        """
        folder = _new(root / "splits")
        for name in bigearthnet.EXCLUDED:
            (folder / name).touch()
        for name, split in (("train", "train"), ("val", "test"), ("test", None)):
            lines = ids[split] if split else []
            (folder / f"{name}.csv").write_text(
                "".join(f"{patch}\n" for patch in lines), encoding="utf-8"
            )


def corine_labels(factors: Factors) -> list[str]:
    """Return the CORINE names of a scene: three of the 19 classes, one of 7, of 6 and of 6.

    They are determined by `common`, `unique1` and `unique2`, in class order.
    """
    starts = np.cumsum([0, *LEVELS["sar-optical"][:2]])
    joined = list(bigearthnet.CORINE.values())
    return [joined[start + level][0] for start, level in zip(starts, factors, strict=True)]


class _GeoNrw(Layout):
    """Write `<city>/<E>_<N>_{rgb.jp2,dem.tif,seg.tif}`, where a tile has 4 x 4 scenes."""

    unit = TILE

    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        city, east, north = self._tile(split, numbers[0])
        return [f"{city}_{east}_{north}_{k}" for k in range(1, TILE + 1)]

    @staticmethod
    def _tile(split: str, index: int) -> tuple[str, int, int]:
        """Return the city and corner, in kilometres, of the tile with a scene."""
        number = index // TILE
        cities = sorted(geonrw.TEST_CITIES) if split == "test" else TRAIN_CITIES
        return cities[number % len(cities)], 300 + number % 100, 5600 + number // 100

    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        city, east, north = self._tile(scenes[0].split, scenes[0].index)
        rgb, dem, seg = (_mosaic([s.arrays[k] for s in scenes]) for k in ("rgb", "dem", "mask"))
        where = (east * 1000, (north + 1) * 1000, 1000 / len(dem), UTM32)
        stem = f"{_new(root / city)}/{east}_{north}"
        _tif(Path(f"{stem}_dem.tif"), dem, *where)
        _tif(Path(f"{stem}_seg.tif"), seg, *where)
        Image.fromarray(rgb).save(f"{stem}_rgb.jp2")  # lossless by default


class _SunRgbd(Layout):
    """Write `SUNRGBD/kv2/kinect2data/<frame>/`, label images and lists, with test first."""

    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        return [f"img-{self._name(split, number, settings)}" for number in numbers]

    @staticmethod
    def _name(split: str, index: int, settings: DatasetSettings) -> str:
        assert settings.scenes is not None
        train, test = settings.scenes.train, settings.scenes.test
        return f"{1 + (index + test if split == 'train' else index - train):06d}"

    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        (scene,) = scenes
        name = self._name(scene.split, scene.index, settings)
        folder = root / self._frame(name)
        rgb, depth = scene.arrays["rgb"], scene.arrays["depth"]
        Image.fromarray(rgb).save(_new(folder / "image") / f"{name}.jpg", quality=95)
        measured = np.where(scene.arrays["missing"], 0, depth)
        Image.fromarray(encode_depth(measured)).save(_new(folder / "depth") / f"{name}.png")
        Image.fromarray(encode_depth(depth)).save(_new(folder / "depth_bfx") / f"{name}.png")
        camera = nyu_intrinsics(depth.shape[1])
        (folder / "intrinsics.txt").write_text(
            "\n".join(" ".join(map(repr, row)) for row in camera.tolist()), encoding="utf-8"
        )
        Image.fromarray(scene.arrays["mask"]).save(_new(root / "labels") / f"img-{name}.png")

    def finish(self, ids: dict[str, list[str]], root: Path) -> None:
        """Write the lists of image paths."""
        folder = _new(root / "meta")
        for split, name in sun_rgbd.LISTS.items():
            frames = [sample.removeprefix("img-") for sample in ids[split]]
            lines = [f"{self._frame(frame)}/image/{frame}.jpg\n" for frame in frames]
            (folder / name).write_text("".join(lines), encoding="utf-8")

    @staticmethod
    def _frame(name: str) -> str:
        return f"SUNRGBD/kv2/kinect2data/{name}"


def encode_depth(depth_m: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Encode depth as SUN-RGBD does: millimetres whose 16 bits are rotated left by three."""
    millimetres = np.rint(depth_m * 1000).astype(np.uint16)
    rotated: NDArray[np.uint16] = (millimetres << 3) | (millimetres >> 13)
    return rotated


class _NyuV2(Layout):
    """Write the MATLAB file of NYUv2 from one part per frame, with its splits and class names."""

    RAW_NAMES = 894

    def ids(self, split: str, numbers: range, settings: DatasetSettings) -> list[str]:
        return [f"{number + 1:04d}" for number in numbers]

    def write(self, scenes: Sequence[Scene], root: Path, settings: DatasetSettings) -> None:
        """Write a part that `finish` joins, because an HDF5 file can have only one writer."""
        (scene,) = scenes
        depth = scene.arrays["depth"]
        np.savez(
            _new(root / "parts") / f"{scene.index}.npz",
            images=scene.arrays["rgb"].T,
            depths=depth.T,
            rawDepths=np.where(scene.arrays["missing"], 0, depth).T,
            # Several names map to a class: here every 40th, varying between frames.
            labels=scene.arrays["mask"].T.astype(np.uint16) + 40 * (scene.index % 20),
        )

    def finish(self, ids: dict[str, list[str]], root: Path) -> None:
        """Join the parts, columns first as in MATLAB, and write the two small files."""
        count = sum(map(len, ids.values()))
        with h5py.File(root / nyuv2.ARCHIVE, "w") as file:
            for index in range(count):
                part = root / "parts" / f"{index}.npz"
                with np.load(part) as frame:
                    for name, array in frame.items():
                        if index == 0:
                            file.create_dataset(name, (count, *array.shape), array.dtype)
                        file[name][index] = array
                part.unlink()
        (root / "parts").rmdir()
        numbers = {split: np.array(list(map(int, ids[split])))[:, None] for split in ids}
        splits = {"trainNdxs": numbers["train"], "testNdxs": numbers["test"]}
        scipy.io.savemat(root / nyuv2.SPLITS, splits)
        classes = len(nyuv2.DATASET.classes)
        mapping = 1 + np.arange(self.RAW_NAMES) % classes
        names = np.array(nyuv2.DATASET.classes, dtype=object)[None]
        facts = {"mapClass": mapping[None].astype(np.uint8), "className": names}
        scipy.io.savemat(root / nyuv2.MAPPING, facts)


LAYOUTS: dict[str, Layout] = {
    "ssl4eo-s12": _Ssl4eo(),
    "bigearthnet": _BigEarthNet(),
    "geonrw": _GeoNrw(),
    "sun-rgbd": _SunRgbd(),
    "nyuv2": _NyuV2(),
}


def optical_bands(scene: Scene, season: int) -> dict[str, NDArray[np.uint16]]:
    """Resample the bands to their own resolution, reflectance times 10,000."""
    images = {}
    for (band, metres), image in zip(METRES.items(), scene.arrays["optical"][season], strict=True):
        factor = metres // 10
        side = len(image) // factor
        coarse = image[: side * factor, : side * factor]
        coarse = coarse.reshape(side, factor, side, factor).mean(axis=(1, 3))
        images[band] = np.rint(10_000 * coarse).astype(np.uint16)
    return images


def _mosaic(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    side = geonrw.GRID
    rows = [np.concatenate(images[k : k + side], axis=1) for k in range(0, len(images), side)]
    return np.concatenate(rows)


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tif(path: Path, image: NDArray[Any], left: float, top: float, pixel: float, crs: CRS) -> None:
    height, width = image.shape
    profile = {"count": 1, "height": height, "width": width, "dtype": image.dtype, "crs": crs}
    transform = from_origin(left, top, pixel, pixel)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as file:
        file.write(image, 1)
