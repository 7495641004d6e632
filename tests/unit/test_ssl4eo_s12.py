"""SSL4EO-S12 locations are read with their seasons in order and both sensors side by side."""

import numpy as np
import pytest
import rasterio

from decur.config import DatasetSettings
from decur.datasets import ssl4eo_s12
from decur.errors import DecurError
from tests.support.rasters import cut_short, one_line_naming, write_tiff
from tests.support.ssl4eo import make_location

SETTINGS = DatasetSettings(pixels=24, seasons=4)


def read_only(root, settings=SETTINGS):
    (record,) = ssl4eo_s12.scan(root, settings)
    return ssl4eo_s12.read(record, settings)


def scene(root, sensor, index=0):
    return sorted((root / sensor / "0000007").iterdir())[index]


def test_a_location_has_two_sar_and_thirteen_optical_bands(tmp_path):
    sample = read_only(make_location(tmp_path))
    assert sample.id == "0000007"
    assert sample.split == "train"
    assert sample.arrays["sar"].shape == (4, 2, 24, 24)
    assert sample.arrays["optical"].shape == (4, 13, 24, 24)
    assert all(array.dtype == np.uint8 for array in sample.arrays.values())


def test_a_location_that_its_authors_call_void_has_a_fault(tmp_path):
    make_location(tmp_path)
    (tmp_path / "void_ids.csv").write_text("6\n7\n")
    (record,) = ssl4eo_s12.scan(tmp_path, SETTINGS)
    assert "void" in record.fault and str(tmp_path) in record.fault
    (tmp_path / "void_ids.csv").write_text("6\n70\n")
    assert read_only(tmp_path).id == "0000007"
    (tmp_path / "void_ids.csv").write_text("<html>")
    with pytest.raises(DecurError, match="is not a list of numbers") as raised:
        ssl4eo_s12.scan(tmp_path, SETTINGS)
    assert one_line_naming(raised, tmp_path / "void_ids.csv")


def test_bands_are_stacked_in_the_order_of_the_network(tmp_path):
    sample = read_only(make_location(tmp_path))
    expected = [int((2000 + 40 * channel) * 255 / 10_000) for channel in range(13)]
    assert sample.arrays["optical"][0, :, 0, 0].tolist() == expected
    vv, vh = sample.arrays["sar"][0, :, 0, 0].tolist()
    assert (vv, vh) == (128, 75)


def test_seasons_are_sorted_by_date_and_repeated_in_turn(tmp_path):
    sample = read_only(make_location(tmp_path, seasons=("0101", "0401", "0701"), satellites="ABA"))
    season = sample.arrays["optical"][:, 0, 0, 0]
    assert (season // 50).tolist() == [1, 2, 3, 1]


def test_the_date_decides_the_season_and_not_the_satellite(tmp_path):
    root = make_location(tmp_path, seasons=("0401", "0101"), satellites="AB")
    write_tiff(scene(root, "s1", 0) / "VV.tif", np.full((24, 24), -5.0, np.float32))  # S1A, April
    vv = read_only(root).arrays["sar"][:, 0, 0, 0]
    assert vv[0] < vv[1]


def test_fewer_seasons_can_be_stored(tmp_path):
    settings = DatasetSettings(pixels=24, seasons=1, modalities=("optical",))
    sample = read_only(make_location(tmp_path), settings)
    assert {name: array.shape for name, array in sample.arrays.items()} == {
        "optical": (1, 13, 24, 24)
    }


def test_a_location_that_one_sensor_lacks_has_a_fault_that_names_what_is_missing(tmp_path):
    make_location(tmp_path, "0000003")
    make_location(tmp_path, "0000001")
    (tmp_path / "s1" / "0000001").rename(tmp_path / "s1" / "0000009")
    one, three, nine = ssl4eo_s12.scan(tmp_path, SETTINGS)
    assert not three.fault
    assert one.fault.startswith(f"{tmp_path / 's1' / '0000001'}: not found")
    assert nine.fault.startswith(f"{tmp_path / 's2c' / '0000009'}: not found")


def test_a_missing_sensor_names_its_folder(tmp_path):
    (tmp_path / "s1").mkdir()
    with pytest.raises(DecurError) as raised:
        ssl4eo_s12.scan(tmp_path, SETTINGS)
    assert one_line_naming(raised, tmp_path / "s2c")


def test_a_location_without_scenes_names_its_folder(tmp_path):
    (tmp_path / "s1" / "0000007").mkdir(parents=True)
    (tmp_path / "s2c" / "0000007").mkdir(parents=True)
    with pytest.raises(DecurError, match="no scene") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, tmp_path / "s1" / "0000007")


def test_a_scene_without_a_date_names_its_folder(tmp_path):
    root = make_location(tmp_path)
    scene(root, "s1").rename(root / "s1" / "0000007" / "spring")
    with pytest.raises(DecurError, match="no acquisition time") as raised:
        read_only(root)
    assert one_line_naming(raised, root / "s1" / "0000007" / "spring")


@pytest.mark.parametrize(("sensor", "band"), [("s1", "VH"), ("s2c", "B10")])
def test_a_missing_band_names_the_file(tmp_path, sensor, band):
    root = make_location(tmp_path)
    path = scene(root, sensor) / f"{band}.tif"
    path.unlink()
    with pytest.raises(DecurError, match="no such file") as raised:
        read_only(root)
    assert one_line_naming(raised, path)


@pytest.mark.parametrize(("sensor", "band"), [("s1", "VV"), ("s2c", "B8A")])
def test_a_band_cut_short_names_the_file(tmp_path, sensor, band):
    root = make_location(tmp_path)
    path = scene(root, sensor) / f"{band}.tif"
    cut_short(path)
    with pytest.raises(DecurError, match="cannot be read") as raised:
        read_only(root)
    assert one_line_naming(raised, path)


@pytest.mark.parametrize(
    ("sensor", "band", "side"), [("s1", "VH", 23), ("s2c", "B8", 12), ("s2c", "B9", 12)]
)
def test_a_band_of_the_wrong_size_names_the_file(tmp_path, sensor, band, side):
    root = make_location(tmp_path)
    path = scene(root, sensor) / f"{band}.tif"
    write_tiff(path, np.zeros((side, side), np.float32 if sensor == "s1" else np.uint16))
    with pytest.raises(DecurError, match=f"{side} x {side} pixels, expected") as raised:
        read_only(root)
    assert one_line_naming(raised, path)


def test_a_scene_outside_the_swath_names_its_folder(tmp_path):
    root = make_location(tmp_path)
    folder = scene(root, "s1", 0)
    write_tiff(folder / "VH.tif", np.full((24, 24), np.nan, np.float32))
    with pytest.raises(DecurError, match="576 of 1152 pixels are not finite") as raised:
        read_only(root)
    assert one_line_naming(raised, folder)


@pytest.mark.parametrize("sensor", ["s1", "s2c"])
def test_a_scene_of_zeros_is_named(tmp_path, sensor):
    folder = scene(make_location(tmp_path), sensor, 1)
    for path in folder.iterdir():
        with rasterio.open(path) as file:
            image = file.read(1)
        write_tiff(path, 0 * image)
    with pytest.raises(DecurError, match="every pixel is 0") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, folder)


def test_a_scene_of_another_place_is_named(tmp_path):
    path = scene(make_location(tmp_path), "s2c", 1) / "B2.tif"
    write_tiff(path, np.full((24, 24), 2000, np.uint16), left=600_000)
    with pytest.raises(DecurError, match="lies elsewhere") as raised:
        read_only(tmp_path)
    assert one_line_naming(raised, path)


def test_an_unknown_modality_is_refused(tmp_path):
    with pytest.raises(DecurError, match=r"datasets.ssl4eo-s12.modalities: no 'dem'"):
        read_only(make_location(tmp_path), DatasetSettings(pixels=24, modalities=("sar", "dem")))


def test_the_real_location_is_read(real_frames, tmp_path):
    ssl4eo_s12.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    sample = read_only(root, DatasetSettings(pixels=264))
    assert sample.id == "0000200"
    assert sample.arrays["sar"].shape == (4, 2, 264, 264)
    assert sample.arrays["optical"].shape == (4, 13, 264, 264)
    np.testing.assert_array_equal(sample.arrays["optical"][0], sample.arrays["optical"][2])
    b2, b8, b10 = sample.arrays["optical"][0, [1, 7, 10]].mean(axis=(1, 2))
    assert b10 < 1 < b2 < b8  # no cirrus, vegetated
    clear, cloudy = sample.arrays["optical"][:2, 1].mean(axis=(1, 2))
    assert clear < cloudy


def test_resampled_bands_of_the_real_location_lie_on_the_others(real_frames, tmp_path):
    ssl4eo_s12.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    b4, b5 = read_only(root, DatasetSettings(pixels=264)).arrays["optical"][0, [3, 4]].astype(float)

    def agreement(shift):
        return np.corrcoef(np.roll(b5, shift, (0, 1)).ravel(), b4.ravel())[0, 1]

    assert max([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], key=agreement) == (0, 0)
