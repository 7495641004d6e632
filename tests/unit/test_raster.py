"""Rasters are read whole or by cell, and sample folders are linked without touching real files."""

import numpy as np
import pytest

from decur.datasets.raster import link, list_names, read_band, read_raster
from decur.errors import DecurError
from tests.unit.rasters import one_line_naming, write_tiff


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_band_comes_back_as_it_was_stored(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, 200, (6, 8)).astype(dtype)
    write_tiff(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_band(tmp_path / "a.tif"), image)
    assert read_band(tmp_path / "a.tif").dtype == dtype


def test_cells_are_numbered_row_by_row_and_tile_the_image(tmp_path):
    image = np.arange(2 * 6 * 9, dtype=np.uint16).reshape(2, 6, 9)
    write_tiff(tmp_path / "a.tif", image)
    cells = [read_raster(tmp_path / "a.tif", 2, cell, grid=3) for cell in range(1, 10)]
    rows = [np.concatenate(cells[k : k + 3], axis=2) for k in (0, 3, 6)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), image)


def test_a_file_that_is_no_raster_is_named(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("<html>Not found</html>")
    with pytest.raises(DecurError, match="cannot be read") as raised:
        read_band(path)
    assert one_line_naming(raised, path)


def test_several_bands_are_no_band(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DecurError, match="has 3 bands, expected 1"):
        read_band(tmp_path / "a.tif")


def test_a_link_is_made_below_new_folders_and_can_be_made_again(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.tif").touch()
    for _ in range(2):
        link(tmp_path / "frames", tmp_path / "raw" / "s1")
    assert list_names(tmp_path / "raw" / "s1") == ["a.tif"]


def test_a_link_never_replaces_a_real_folder(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "raw").mkdir()
    with pytest.raises(DecurError, match="is not a link") as raised:
        link(tmp_path / "frames", tmp_path / "raw")
    assert one_line_naming(raised, tmp_path / "raw")


def test_a_link_to_nothing_is_refused(tmp_path):
    with pytest.raises(DecurError, match="not found") as raised:
        link(tmp_path / "frames", tmp_path / "raw")
    assert one_line_naming(raised, tmp_path / "frames")
