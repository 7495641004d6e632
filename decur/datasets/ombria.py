"""Read OMBRIA: 694 places before and after a flood, Sentinel-1 and Sentinel-2 as 8-bit PNG.

Layout: `Ombria{S1,S2}/{train,test}/{BEFORE,AFTER,MASK}/S{1,2}_{before,after,mask}_<number>.png`.
Each place gives two samples, one per date. Only the flood after the event is mapped, so the mask of
the date before is all `ignore`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from decur.artifacts.scaling import Scaling
from decur.config import DatasetSettings
from decur.datasets import Dataset, Record
from decur.datasets.raw_files import link, list_names, stored_modalities
from decur.errors import DecurError
from decur.imagery.bands import resize
from decur.imagery.images import read_image
from decur.imagery.rasters import check_not_blank, check_square
from decur.shards import Modality, Sample

DATASET = Dataset(
    name="ombria",
    title="OMBRIA",
    modalities=(
        Modality("sar", ("backscatter",), Scaling.stored("8 bits as published")),
        Modality(
            "optical",
            ("red", "green", "blue"),
            Scaling.stored("8 bits of false colour as published"),
        ),
    ),
    licence="none stated; contains modified Copernicus data",
    homepage="https://github.com/geodrak/OMBRIA",
    classes=("land", "water"),
    colours=((196, 178, 134), (44, 105, 176)),
    ignore=255,
)

SENSORS = {"sar": "S1", "optical": "S2"}
DATES = ("before", "after")


def scan(root: Path, settings: DatasetSettings) -> Sequence[Record]:
    """List the places, once per date; the folders are the splits.

    A place that only one sensor imaged at a date has a fault.
    """
    records = []
    for split in ("train", "test"):
        for date in DATES:
            seen = {name: _numbers(root, s, split, date) for name, s in SENSORS.items()}
            for number in set.union(*seen.values()):
                paths = {
                    name: _path(root, sensor, split, date, number)
                    for name, sensor in SENSORS.items()
                }
                missing = [paths[name] for name in SENSORS if number not in seen[name]]
                fault = (
                    f"{missing[0]}: not found, but the other sensor's image exists"
                    if missing
                    else ""
                )
                if date == "after":
                    paths["mask"] = _path(root, "S1", split, "mask", number)
                records.append(Record(f"{number}-{date}", split, paths, place=number, fault=fault))
    return sorted(records, key=lambda record: record.id)


def read(record: Record, settings: DatasetSettings) -> Sample:
    """Read one place at one date, with its water mask.

    Raises:
        DecurError: a file is missing, damaged, without data, not square or not of the size of the
            others, or a mask has values other than 0 and 255.
    """
    images = {m.name: _read_bands(record.paths[m.name], len(m.bands)) for m in DATASET.modalities}
    side = images["sar"].shape[-1]
    mask = np.full((side, side), DATASET.ignore, np.uint8)
    if "mask" in record.paths:
        images["mask"] = _read_bands(record.paths["mask"], 1)
        mask = _water(record.paths["mask"], images["mask"][0])
    for name, image in images.items():
        check_square(record.paths[name], image, side)
        if name != "mask":
            check_not_blank(record.paths[name], image)
    return Sample(
        id=record.id,
        split=record.split,
        arrays={
            name: resize(images[name], settings.side)[None]
            for name in stored_modalities(DATASET, settings)
        },
        mask=resize(mask, settings.side, "nearest"),
        place=record.place,
        source=str(record.paths["sar"]),
    )


def _water(path: Path, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wrong = mask[(mask != 0) & (mask != 255)]
    if wrong.size:
        raise DecurError(f"{path}: label {wrong[0]} is neither 0 nor 255; fetch the file again")
    water: NDArray[np.uint8] = (mask == 255).astype(np.uint8)
    return water


def _read_bands(path: Path, bands: int) -> NDArray[np.uint8]:
    image = np.atleast_3d(read_image(path)).transpose(2, 0, 1)
    if len(image) != bands or image.dtype != np.uint8:
        raise DecurError(
            f"{path}: {len(image)} bands of {image.dtype}, expected {bands} of uint8; "
            "fetch the file again"
        )
    return image


def _path(root: Path, sensor: str, split: str, kind: str, number: str) -> Path:
    return root / f"Ombria{sensor}" / split / kind.upper() / f"{sensor}_{kind}_{number}.png"


def _numbers(root: Path, sensor: str, split: str, date: str) -> set[str]:
    names = list_names(root / f"Ombria{sensor}" / split / date.upper())
    return {Path(name).stem.rsplit("_", 1)[-1] for name in names}


def arrange_samples(samples: Path, root: Path) -> None:
    """Link the sample places in the official layout."""
    for sensor in SENSORS.values():
        link(samples / "OMBRIA" / f"Ombria{sensor}", root / f"Ombria{sensor}")
