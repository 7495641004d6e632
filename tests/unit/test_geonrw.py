import json
import re

import numpy as np
import pytest
import rasterio
from PIL import Image

from decur.config import DatasetSettings
from decur.datasets import geonrw
from decur.errors import DecurError
from decur.preprocess.run import preprocess
from tests.support.geonrw import SIDE, write_tile
from tests.support.rasters import write_bare_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SMALL = DatasetSettings(pixels=16)
WITH_NIR = DatasetSettings(pixels=16, modalities=("rgb", "nir"))


def test_a_tile_is_cut_into_sixteen_patches_row_by_row(tmp_path):
    image = np.asarray(Image.open(write_tile(tmp_path)))
    records = {record.patch: record for record in geonrw.scan(tmp_path, SMALL)}
    assert set(records) == set(range(1, 17))
    assert records[7].id == "aachen_280_5650_7"
    sample = geonrw.read(records[7], SMALL)
    assert sample.arrays["rgb"].shape == (1, 3, 16, 16)
    np.testing.assert_array_equal(
        sample.arrays["rgb"][0].transpose(1, 2, 0), image[16:32, 32:48, :3]
    )


def test_records_come_sorted_by_id_and_split_by_city(tmp_path):
    for number, city in enumerate(("neuss", "aachen", "atlantis")):
        write_tile(tmp_path, city, f"28{number}_5650")
    records = geonrw.scan(tmp_path, SMALL)
    assert [r.id for r in records] == sorted(r.id for r in records)
    splits = {record.place: record.split for record in records}
    assert splits == {"neuss": "test", "aachen": "train", "atlantis": "train"}


def test_elevation_is_stretched_within_each_patch(tmp_path):
    write_tile(tmp_path)
    first, last = (geonrw.read(geonrw.scan(tmp_path, SMALL)[i], SMALL) for i in (0, 15))
    dem = first.arrays["dem"]
    assert dem.shape == (1, 1, 16, 16) and dem.dtype == np.uint8
    assert dem.min() == 0 and dem.max() >= 254
    np.testing.assert_allclose(dem.astype(int), last.arrays["dem"].astype(int), atol=1)


def test_near_infrared_is_the_fourth_band(tmp_path):
    image = np.asarray(Image.open(write_tile(tmp_path)))
    sample = geonrw.read(geonrw.scan(tmp_path, WITH_NIR)[0], WITH_NIR)
    assert list(sample.arrays) == ["rgb", "nir"]
    np.testing.assert_array_equal(sample.arrays["nir"][0, 0], image[:16, :16, 3])


def test_patches_are_resized_to_the_stored_side_and_keep_whole_labels(tmp_path):
    write_tile(tmp_path)
    settings = DatasetSettings(pixels=40)
    sample = geonrw.read(geonrw.scan(tmp_path, settings)[0], settings)
    assert sample.arrays["rgb"].shape == (1, 3, 40, 40)
    assert sample.mask.shape == (40, 40) and sample.mask.dtype == np.uint8
    assert sample.mask.max() < len(geonrw.DATASET.classes) == len(geonrw.DATASET.colours)


def test_a_tile_without_elevation_names_itself_and_the_remedy(tmp_path):
    write_tile(tmp_path).with_name("280_5650_dem.tif").unlink()
    records = geonrw.scan(tmp_path, SMALL)
    assert len(records) == 16
    for record in records:
        assert re.fullmatch(r"aachen/280_5650: .*modalities to \[rgb, nir\]", record.fault)
    assert not any(record.fault for record in geonrw.scan(tmp_path, WITH_NIR))


def test_a_tile_without_labels_has_a_fault(tmp_path):
    write_tile(tmp_path).with_name("280_5650_seg.tif").unlink()
    assert "280_5650_seg.tif not found" in geonrw.scan(tmp_path, SMALL)[0].fault


def test_near_infrared_of_a_three_band_tile_is_an_error(tmp_path):
    write_tile(tmp_path, bands=3)
    record = geonrw.scan(tmp_path, WITH_NIR)[0]
    with pytest.raises(DecurError, match=r"280_5650_rgb.jp2: no fourth band"):
        geonrw.read(record, WITH_NIR)


def test_a_truncated_image_is_named(tmp_path):
    path = write_tile(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DecurError, match=r"280_5650_rgb.jp2: truncated") as caught:
        geonrw.read(geonrw.scan(tmp_path, SMALL)[0], SMALL)
    assert "\n" not in str(caught.value)


def test_a_label_above_ten_is_named(tmp_path):
    path = write_tile(tmp_path).with_name("280_5650_seg.tif")
    write_bare_tiff(path, np.full((SIDE, SIDE), 11, dtype=np.uint8))
    with pytest.raises(DecurError, match=r"280_5650_seg\.tif: label 11\b"):
        geonrw.read(geonrw.scan(tmp_path, SMALL)[0], SMALL)


def test_patches_without_elevation_or_colour_are_named_and_the_others_read(tmp_path):
    path = write_tile(tmp_path)
    dem = path.with_name("280_5650_dem.tif")
    elevation = np.zeros((SIDE, SIDE), np.float32)
    elevation[:16, :16] = -9999
    write_bare_tiff(dem, elevation)
    image = np.full((SIDE, SIDE, 3), 9, np.uint8)
    image[-16:, -16:] = 0
    Image.fromarray(image).save(path)
    records = {record.patch: record for record in geonrw.scan(tmp_path, SMALL)}
    with pytest.raises(DecurError, match=r"280_5650_dem\.tif: elevation: -9999 m"):
        geonrw.read(records[1], SMALL)
    with pytest.raises(DecurError, match=r"280_5650_rgb\.jp2: every pixel is 0"):
        geonrw.read(records[16], SMALL)
    for patch in range(2, 16):
        geonrw.read(records[patch], SMALL)


def test_an_image_of_sixteen_bits_is_named(tmp_path):
    path = write_tile(tmp_path)
    Image.fromarray(np.ones((SIDE, SIDE), np.uint16)).save(path)
    with pytest.raises(DecurError, match=r"280_5650_rgb.jp2: image is uint16"):
        geonrw.read(geonrw.scan(tmp_path, SMALL)[0], SMALL)


def test_files_of_different_size_are_an_error(tmp_path):
    path = write_tile(tmp_path).with_name("280_5650_dem.tif")
    write_bare_tiff(path, np.zeros((SIDE // 2, SIDE // 2), dtype=np.float32))
    with pytest.raises(DecurError, match=r"280_5650_dem.tif: 32 x 32 pixels, expected 64 x 64"):
        geonrw.read(geonrw.scan(tmp_path, SMALL)[0], SMALL)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DecurError, match=r"no <city>/<E>_<N>_rgb.jp2"):
        geonrw.scan(tmp_path, SMALL)


def test_a_tile_of_a_test_city_is_in_no_training_city_and_the_card_counts_it(tmp_path, capsys):
    raw = tmp_path / "raw"
    for city in ("aachen", "neuss", "bonn"):
        write_tile(raw, city)
    for city in ("aachen", "bonn"):
        write_tile(raw, city, "281_5650")
    records = geonrw.scan(raw, SMALL)
    tiles = {(r.paths["rgb"].stem.split("_")[0], r.place, r.split) for r in records}
    assert tiles == {("280", "neuss", "test"), ("281", "aachen", "train"), ("281", "bonn", "train")}
    (raw / "manifest.json").write_text(json.dumps({"provenance": {"inputs": {}}}))
    preprocess("geonrw", SMALL, raw, tmp_path / "shards")
    card = json.loads((tmp_path / "shards" / "card.json").read_text())
    assert sum(card["counts"].values()) == 48 and list(card["left_out"].values()) == [32]
    assert "geonrw: 32 samples left out: " in capsys.readouterr().out


def test_the_real_tiles_are_read_in_their_official_layout(real_frames, tmp_path):
    geonrw.arrange_samples(real_frames, tmp_path)
    settings = DatasetSettings(pixels=250, modalities=("rgb", "nir"))
    records = geonrw.scan(tmp_path, settings)
    assert len(records) == 40 * 16
    assert {r.place for r in records if r.split == "test"} == {"duesseldorf", "herne"}
    patches = [r for r in records if r.id.startswith("herne_373_5711_")]
    samples = {r.patch: geonrw.read(r, settings) for r in patches}
    with rasterio.open(real_frames / "GeoNRW/herne/373_5711_rgb.jp2") as file:
        tile = file.read()
    np.testing.assert_array_equal(samples[16].arrays["rgb"][0], tile[:3, 750:, 750:])
    np.testing.assert_array_equal(samples[4].arrays["nir"][0], tile[3:, :250, 750:])
    assert set(np.unique(samples[1].mask)) <= set(range(11))
    assert samples[1].mask.any()


def test_the_real_tiles_have_no_elevation(real_frames, tmp_path):
    geonrw.arrange_samples(real_frames, tmp_path)
    records = geonrw.scan(tmp_path, DatasetSettings())
    assert all("modalities to [rgb, nir]" in record.fault for record in records)
