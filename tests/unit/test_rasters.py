"""Rasters are read whole or by cell, and sample folders are linked without touching real files."""

import numpy as np
import pytest
import rasterio

from decur.datasets.raw_files import link, list_names
from decur.errors import DecurError
from decur.imagery.rasters import (
    check_not_blank,
    check_same_place,
    places,
    read_band,
    read_raster,
)
from tests.support.rasters import one_line_naming, write_tiff


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("labels", np.uint8),
        ("reflectance", np.uint16),
        ("elevation", np.int16),
        ("backscatter", np.float32),
    ],
)
def test_a_band_comes_back_as_it_was_stored(tmp_path, kind, dtype):
    image = np.random.default_rng(0).integers(0, 200, (6, 8)).astype(dtype)
    write_tiff(tmp_path / "a.tif", image)
    np.testing.assert_array_equal(read_band(tmp_path / "a.tif", kind), image)
    assert read_band(tmp_path / "a.tif", kind).dtype == dtype


def test_cells_are_numbered_row_by_row_and_tile_the_image(tmp_path):
    image = np.arange(2 * 6 * 9, dtype=np.uint16).reshape(2, 6, 9)
    write_tiff(tmp_path / "a.tif", image)
    cells = [
        read_raster(tmp_path / "a.tif", "reflectance", 2, cell, grid=3) for cell in range(1, 10)
    ]
    rows = [np.concatenate(cells[k : k + 3], axis=2) for k in (0, 3, 6)]
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), image)


def test_a_file_that_is_no_raster_is_named(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("<html>Not found</html>")
    with pytest.raises(DecurError, match="cannot be read") as raised:
        read_band(path, "labels")
    assert one_line_naming(raised, path)


def test_several_bands_are_no_band(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DecurError, match="has 3 bands, expected 1"):
        read_band(tmp_path / "a.tif", "labels")


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        ("reflectance", np.float32, "uint16 or int16"),
        ("reflectance", np.uint8, "uint16 or int16"),
        ("backscatter", np.int16, "float32 or float64"),
        ("labels", np.float32, "uint8 or"),
    ],
)
def test_a_type_that_a_sensor_does_not_give_is_named(tmp_path, kind, dtype, expected):
    path = tmp_path / "a.tif"
    write_tiff(path, np.ones((4, 4), dtype))
    with pytest.raises(DecurError, match=f"{kind} is {dtype.__name__}, expected {expected}") as e:
        read_band(path, kind)
    assert one_line_naming(e, path)


def test_what_a_file_declares_to_be_no_data_is_not_a_number_but_for_labels(tmp_path):
    write_tiff(tmp_path / "a.tif", np.array([[7, -99]], np.int16), nodata=-99)
    elevation = read_band(tmp_path / "a.tif", "elevation")
    assert elevation[0, 0] == 7 and np.isnan(elevation[0, 1])
    assert read_band(tmp_path / "a.tif", "labels").tolist() == [[7, -99]]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_header_that_promises_more_than_the_memory_holds_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    sparse = {"driver": "GTiff", "count": 1, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(path, "w", width=200_000, height=200_000, **sparse):
        pass
    with pytest.raises(DecurError, match="200000 x 200000 pixels is implausibly large") as raised:
        read_band(path, "labels")
    assert one_line_naming(raised, path)


def test_files_of_the_same_ground_may_differ_in_resolution_and_a_little_in_place(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((6, 6), np.uint8))
    write_tiff(tmp_path / "b.tif", np.zeros((2, 2), np.uint8), pixel=30)
    write_tiff(tmp_path / "c.tif", np.zeros((6, 6), np.uint8), left=500_002)
    check_same_place(places([tmp_path / "a.tif", tmp_path / "b.tif"]))
    check_same_place(places([tmp_path / "a.tif", tmp_path / "c.tif"]), 0.04)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": 500_006}, "lies elsewhere than .*a.tif, 10.0% of its width away, more than 8.3%"),
        ({"pixel": 20}, "lies elsewhere"),
        ({"crs": "EPSG:32633"}, "is in EPSG:32633, but .*a.tif is in EPSG:32632"),
    ],
)
def test_files_of_other_ground_are_named(tmp_path, change, message):
    write_tiff(tmp_path / "a.tif", np.zeros((6, 6), np.uint8))
    write_tiff(tmp_path / "b.tif", np.zeros((6, 6), np.uint8), **change)
    with pytest.raises(DecurError, match=message) as raised:
        check_same_place(places([tmp_path / "a.tif", tmp_path / "b.tif"]))
    assert one_line_naming(raised, tmp_path / "b.tif")


def test_files_without_a_place_are_not_compared(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((6, 6), np.uint8), crs=None)
    write_tiff(tmp_path / "b.tif", np.zeros((6, 6), np.uint8))
    check_same_place(places([tmp_path / "a.tif", tmp_path / "b.tif"]))


def test_an_image_of_zeros_has_no_data(tmp_path):
    check_not_blank(tmp_path, np.zeros(3), np.array([0, 1]))
    with pytest.raises(DecurError, match="every pixel is 0"):
        check_not_blank(tmp_path, np.zeros(3), np.zeros(2))


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
