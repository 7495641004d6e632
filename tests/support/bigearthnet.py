"""Tiny raw patches in BigEarthNet's layout."""

import bz2
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.rasters import write_tiff

BANDS = ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "11", "12")
SIDES = {"01": 4, "09": 4, "02": 24, "03": 24, "04": 24, "08": 24}
HIDING = ("patches_with_seasonal_snow", "patches_with_cloud_and_shadow")
PASTURE = "S2A_MSIL2A_20170617T113321_4_55"


def make_patch(root: Path, optical: str = PASTURE, labels: Iterable[str] = ("Pastures",)) -> Path:
    """Write a pair of patches with labels, and empty lists of patches to leave out."""
    row, column = optical.split("_")[-2:]
    name = f"S1A_IW_GRDH_1SDV_20170617T064724_29UPU_{row}_{column}"
    sar = root / "BigEarthNet-S1-v1.0" / name
    for band, level in (("VV", -12.59), ("VH", -24.64)):
        write_tiff(sar / f"{name}_{band}.tif", np.full((24, 24), level, np.float32))
    write_json(sar, {"labels": list(labels), "corresponding_s2_patch": optical})
    folder = root / "BigEarthNet-v1.0" / optical
    for number, band in enumerate(BANDS):
        side = SIDES.get(band, 12)
        write_tiff(
            folder / f"{optical}_B{band}.tif", np.full((side, side), 400 * number, np.uint16)
        )
    write_json(folder, {"labels": list(labels)})
    if not (root / "splits").exists():
        write_lists(root, **dict.fromkeys(HIDING, ()))
    return root


def write_json(folder: Path, content: Any) -> None:
    """Write the metadata of a patch."""
    (folder / f"{folder.name}_labels_metadata.json").write_text(json.dumps(content))


def write_lists(root: Path, **lists: Iterable[str]) -> None:
    """Write lists of patches, packed as the official ones are."""
    (root / "splits").mkdir(exist_ok=True)
    for name, patches in lists.items():
        text = "".join(f"{patch}\r\n" for patch in patches)
        (root / "splits" / f"{name}.csv.bz2").write_bytes(bz2.compress(text.encode()))
