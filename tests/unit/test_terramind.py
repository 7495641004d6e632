"""TerraMind tiles are cut into patches that agree over radar, optics, elevation and land cover."""

import numpy as np
import pytest

from decur.config import DatasetSettings
from decur.datasets import terramind
from decur.errors import DecurError
from tests.support.rasters import cut_short, one_line_naming, write_tiff

EVERYTHING = DatasetSettings(pixels=16, modalities=("sar", "optical", "rgb", "dem"))
PATCH = 16
SIDE = 4 * PATCH


def make_tile(root, tile="1U_2R_0_0", offset=0):
    number = np.arange(16).reshape(4, 4).repeat(PATCH, 0).repeat(PATCH, 1)
    write_tiff(root / "S1RTC" / f"{tile}.tif", np.stack([-10.93 + 0 * number, -17.329 - number]))
    optical = np.stack([200 * band + 10 * number for band in range(13)]) + offset
    optical[10] = offset + 5
    write_tiff(root / "S2L1C" / f"{tile}.tif", optical.astype(np.int16))
    relief = np.tile(np.arange(SIDE), (SIDE, 1)) + 1000
    write_tiff(root / "DEM" / f"{tile}.tif", relief.astype(np.int16))
    write_tiff(root / "LULC" / f"{tile}.tif", (number % 10).astype(np.uint8))
    return root


def read(root, name, settings=EVERYTHING):
    records = {record.id: record for record in terramind.scan(root, settings)}
    return terramind.read(records[name], settings)


def test_a_tile_gives_sixteen_patches_and_the_last_tile_is_held_out(tmp_path):
    for tile in ("B", "A", "C"):
        make_tile(tmp_path, tile)
    records = terramind.scan(tmp_path, EVERYTHING)
    assert [record.id for record in records] == sorted(record.id for record in records)
    assert {r.id for r in records} == {f"{t}_{k}" for t in "ABC" for k in range(1, 17)}
    assert {(r.place, r.split) for r in records} == {
        ("A", "train"),
        ("B", "train"),
        ("C", "test"),
    }


def test_patches_are_numbered_row_by_row_in_every_modality(tmp_path):
    make_tile(tmp_path)
    for patch in (1, 4, 5, 16):
        sample = read(tmp_path, f"1U_2R_0_0_{patch}")
        assert (sample.mask == (patch - 1) % 10).all()
        expected = int((200 * 3 + 10 * (patch - 1)) * 255 / 10_000)
        assert (sample.arrays["optical"][0, 3] == expected).all()


def test_all_four_modalities_are_stored_on_request_and_two_otherwise(tmp_path):
    make_tile(tmp_path)
    shapes = {n: a.shape for n, a in read(tmp_path, "1U_2R_0_0_1").arrays.items()}
    assert shapes == {
        "sar": (1, 2, 16, 16),
        "optical": (1, 13, 16, 16),
        "rgb": (1, 3, 16, 16),
        "dem": (1, 1, 16, 16),
    }
    two = read(tmp_path, "1U_2R_0_0_1", DatasetSettings(pixels=16)).arrays
    assert list(two) == ["sar", "optical"]


def test_rgb_is_red_green_and_blue_of_the_optical_bands(tmp_path):
    sample = read(make_tile(tmp_path), "1U_2R_0_0_7")
    np.testing.assert_array_equal(sample.arrays["rgb"][0], sample.arrays["optical"][0][[3, 2, 1]])


def test_the_offset_of_newer_products_is_taken_off(tmp_path):
    old = read(make_tile(tmp_path / "old"), "1U_2R_0_0_3")
    new = read(make_tile(tmp_path / "new", offset=1000), "1U_2R_0_0_3")
    np.testing.assert_array_equal(old.arrays["optical"], new.arrays["optical"])


def test_elevation_is_stretched_within_the_patch(tmp_path):
    first = read(make_tile(tmp_path), "1U_2R_0_0_1").arrays["dem"]
    last = read(tmp_path, "1U_2R_0_0_4").arrays["dem"]
    assert (first.min(), first.max()) == (0, 255)
    np.testing.assert_array_equal(first, last)


def test_the_mean_backscatter_is_mid_grey(tmp_path):
    vv, vh = read(make_tile(tmp_path), "1U_2R_0_0_1").arrays["sar"][0, :, 0, 0]
    assert vv == vh == 127


def test_the_patches_of_a_tile_without_all_files_have_a_fault(tmp_path):
    make_tile(make_tile(tmp_path, "A"), "B")
    (tmp_path / "DEM" / "B.tif").unlink()
    records = terramind.scan(tmp_path, EVERYTHING)
    assert {record.place: bool(record.fault) for record in records} == {"A": False, "B": True}
    assert records[-1].fault.startswith(f"{tmp_path / 'DEM' / 'B.tif'}: not found")
    assert all(record.split == "test" for record in records if not record.fault)


@pytest.mark.parametrize(
    ("folder", "array", "message"),
    [
        ("LULC", np.full((SIDE, SIDE), 10, np.uint8), "label 10 is not one of 0..9"),
        ("S1RTC", np.zeros((2, SIDE, SIDE)), "every pixel is 0"),
        ("S2L1C", np.zeros((13, SIDE, SIDE), np.int16), "every pixel is 0"),
        ("S2L1C", np.ones((13, SIDE, SIDE), np.float32), "reflectance is float32"),
        ("DEM", np.full((SIDE, SIDE), -32768, np.int16), "-32768 m is no height on Earth"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path, folder, array, message):
    path = make_tile(tmp_path) / folder / "1U_2R_0_0.tif"
    write_tiff(path, array)
    with pytest.raises(DecurError, match=message) as raised:
        read(tmp_path, "1U_2R_0_0_1")
    assert one_line_naming(raised, path)


def test_a_file_of_another_place_is_named(tmp_path):
    path = make_tile(tmp_path) / "DEM" / "1U_2R_0_0.tif"
    write_tiff(path, np.zeros((SIDE, SIDE), np.int16), left=0)
    with pytest.raises(DecurError, match="lies elsewhere") as raised:
        read(tmp_path, "1U_2R_0_0_1")
    assert one_line_naming(raised, path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DecurError, match="official layout") as raised:
        terramind.scan(tmp_path, EVERYTHING)
    assert one_line_naming(raised, tmp_path / "S1RTC")


@pytest.mark.parametrize("folder", ["S1RTC", "S2L1C", "DEM", "LULC"])
def test_a_file_cut_short_is_named(tmp_path, folder):
    path = make_tile(tmp_path) / folder / "1U_2R_0_0.tif"
    cut_short(path)
    with pytest.raises(DecurError, match="cannot be read") as raised:
        read(tmp_path, "1U_2R_0_0_16")
    assert one_line_naming(raised, path)


@pytest.mark.parametrize(
    ("bands", "side", "message"),
    [
        (12, SIDE, "has 12 bands, expected 13"),
        (13, SIDE - 1, "cannot be cut into 4 x 4 patches"),
        (13, SIDE // 2, "8 x 8 pixels, expected 16 x 16"),
    ],
)
def test_a_file_of_the_wrong_shape_is_named(tmp_path, bands, side, message):
    path = make_tile(tmp_path) / "S2L1C" / "1U_2R_0_0.tif"
    write_tiff(path, np.zeros((bands, side, side), np.int16))
    with pytest.raises(DecurError, match=message) as raised:
        read(tmp_path, "1U_2R_0_0_1")
    assert one_line_naming(raised, path)


def test_backscatter_without_data_names_the_file(tmp_path):
    path = make_tile(tmp_path) / "S1RTC" / "1U_2R_0_0.tif"
    write_tiff(path, np.full((2, SIDE, SIDE), np.nan))
    with pytest.raises(DecurError, match="512 of 512 pixels are not finite") as raised:
        read(tmp_path, "1U_2R_0_0_1")
    assert one_line_naming(raised, path)


def test_the_real_tiles_are_read(real_frames, tmp_path):
    terramind.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    settings = DatasetSettings(pixels=56, modalities=EVERYTHING.modalities)
    records = terramind.scan(root, settings)
    assert len(records) == 5 * 16
    assert {r.place for r in records if r.split == "test"} == {"637U_59R_1_3"}
    samples = [terramind.read(record, settings) for record in records]

    def mean(channel, label):
        picked = [s.arrays["optical"][0, channel][s.mask == label] for s in samples]
        return np.concatenate(picked).mean()

    label = {name: k for k, name in enumerate(terramind.DATASET.classes)}
    b3, b4, b8, b11 = 2, 3, 7, 11
    assert mean(b8, label["trees"]) > 2 * mean(b4, label["trees"])
    assert mean(b8, label["water"]) < mean(b8, label["trees"])
    assert mean(b3, label["snow and ice"]) > 3 * mean(b11, label["snow and ice"])
    assert all(s.arrays["optical"][0, 10].mean() < 5 for s in samples)  # B10, offset taken off
    assert any(s.arrays["dem"].any() for s in samples)
