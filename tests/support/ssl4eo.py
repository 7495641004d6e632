"""Tiny locations in SSL4EO-S12's layout."""

import numpy as np

from decur.datasets.sentinel import METRES
from tests.support.rasters import write_tiff

S1 = "S1{}_IW_GRDH_1SDV_2020{}T010800_2020{}T010825_032904_03CFBA_D457"
S2 = "2020{}T054639_2020{}T054831_T43RCP"


def make_location(root, location="0000007", seasons=("0101", "0401"), satellites="BA", side=24):
    for number, (date, satellite) in enumerate(zip(seasons, satellites, strict=False), start=1):
        for band in ("VV", "VH"):
            value = np.full((side, side), -12.5 if band == "VV" else -25.0, np.float32)
            write_tiff(
                root / "s1" / location / S1.format(satellite, date, date) / f"{band}.tif", value
            )
        for channel, (band, metres) in enumerate(METRES.items()):
            n = side * 10 // metres
            value = np.full((n, n), 2000 * number + 40 * channel, np.uint16)
            write_tiff(root / "s2c" / location / S2.format(date, date) / f"{band}.tif", value)
    return root
