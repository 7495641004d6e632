"""Files in memory are read as they would be from disk."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from decur.errors import DecurError
from decur.imagery.images import read_image
from decur.imagery.rasters import read_band
from decur.imagery.source import in_memory, is_file, names_in, open_file
from tests.support.rasters import write_tiff

NAMES = ["a/1.tif", "a/2.tif", "a/2.tif.msk", "b.png", "empty.tif", "a/\udcff.txt"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    write_tiff(tmp_path / "a/1.tif", values)
    write_tiff(tmp_path / "a/2.tif", values)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(tmp_path / "a/2.tif", "r+") as f,
    ):
        f.write_mask(values > 0)
    Image.fromarray((values > 0).astype(np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "a/\udcff.txt").write_bytes(b"no reader wants it")
    return tmp_path


def test_files_in_memory_are_read_as_those_on_disk(folder):
    with in_memory({name: (folder / name).read_bytes() for name in NAMES}) as memory:
        for name in ("a/1.tif", "a/2.tif"):
            found, wanted = (read_band(place / name, "backscatter") for place in (memory, folder))
            np.testing.assert_array_equal(found, wanted)
        assert np.isnan(wanted).any(), "the mask beside the file counts"
        np.testing.assert_array_equal(read_image(memory / "b.png"), read_image(folder / "b.png"))
        for below in ("", "a"):
            assert sorted(names_in(memory / below)) == sorted(names_in(folder / below))
        with open_file(memory / "a/\udcff.txt") as file:
            assert file.read() == b"no reader wants it"


@pytest.mark.parametrize("name", ["empty.tif", "none.tif", "none.png"])
def test_faults_are_told_in_the_same_words(folder, name):
    read = read_image if name.endswith(".png") else lambda path: read_band(path, "backscatter")
    reasons = []
    with in_memory({"empty.tif": b""}) as memory:
        for place in (memory, folder):
            with pytest.raises(DecurError) as raised:
                read(place / name)
            reasons.append(str(raised.value).replace(str(place), ""))
    assert reasons[0] == reasons[1]


def test_nothing_is_left_in_memory():
    with pytest.raises(ZeroDivisionError), in_memory({"a/x.tif": b"x"}) as memory:
        path = memory / "a/x.tif"
        assert is_file(path)
        _ = 1 / 0
    assert not is_file(path)
    with pytest.raises(FileNotFoundError):
        open_file(path)
    with pytest.raises(rasterio.RasterioIOError, match="No such file"):
        rasterio.open(path)
