"""OMBRIA places are read at both dates, and only the date after the flood has a water mask."""

import numpy as np
import pytest
from PIL import Image

from decur.config import DatasetSettings
from decur.datasets import ombria
from decur.errors import DecurError
from tests.support.rasters import cut_short, one_line_naming

SETTINGS = DatasetSettings(pixels=32)
SIDE = 64


def path_of(root, sensor, split, kind, number):
    return root / f"Ombria{sensor}" / split / kind.upper() / f"{sensor}_{kind}_{number}.png"


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for split, number in (("train", "0001"), ("train", "0003"), ("test", "0002")):
        for kind in ("before", "after", "mask"):
            for sensor in ("S1", "S2"):
                channels = (3,) if sensor == "S2" and kind != "mask" else ()
                image = rng.integers(0, 256, (SIDE, SIDE, *channels)).astype(np.uint8)
                if kind == "mask":
                    image = np.zeros((SIDE, SIDE), np.uint8)
                    image[: SIDE // 4] = 255
                write_png(path_of(tmp_path, sensor, split, kind, number), image)
    return tmp_path


def read(root, name, settings=SETTINGS):
    records = {record.id: record for record in ombria.scan(root, settings)}
    return ombria.read(records[name], settings)


def test_every_place_is_seen_at_two_dates_and_the_folders_are_the_splits(root):
    records = ombria.scan(root, SETTINGS)
    assert [(record.id, record.split) for record in records] == [
        ("0001-after", "train"),
        ("0001-before", "train"),
        ("0002-after", "test"),
        ("0002-before", "test"),
        ("0003-after", "train"),
        ("0003-before", "train"),
    ]
    assert {record.place for record in records[:2]} == {"0001"}


def test_a_sample_has_one_sar_and_three_optical_bands_as_stored_in_the_files(root):
    sample = read(root, "0001-before", DatasetSettings(pixels=SIDE))
    sar = np.asarray(Image.open(path_of(root, "S1", "train", "before", "0001")))
    optical = np.asarray(Image.open(path_of(root, "S2", "train", "before", "0001")))
    np.testing.assert_array_equal(sample.arrays["sar"], sar[None, None])
    np.testing.assert_array_equal(sample.arrays["optical"], optical.transpose(2, 0, 1)[None])


def test_the_mask_after_the_flood_marks_water(root):
    mask = read(root, "0001-after").mask
    assert mask.shape == (32, 32)
    assert mask.dtype == np.uint8
    assert (mask[:8] == ombria.DATASET.classes.index("water")).all()
    assert (mask[8:] == ombria.DATASET.classes.index("land")).all()


def test_the_mask_before_the_flood_is_all_ignored(root):
    assert (read(root, "0001-before").mask == ombria.DATASET.ignore).all()


def test_everything_is_resized_to_the_stored_size(root):
    sample = read(root, "0002-after", DatasetSettings(pixels=48))
    assert sample.arrays["sar"].shape == (1, 1, 48, 48)
    assert sample.arrays["optical"].shape == (1, 3, 48, 48)
    assert sample.mask.shape == (48, 48)


def test_a_place_that_one_sensor_lacks_at_a_date_has_a_fault_at_that_date(root):
    path = path_of(root, "S2", "train", "before", "0003")
    path.unlink()
    faults = {record.id: record.fault for record in ombria.scan(root, SETTINGS)}
    assert faults["0003-after"] == ""
    assert faults["0003-before"].startswith(f"{path}: not found")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DecurError, match="official layout") as raised:
        ombria.scan(tmp_path, SETTINGS)
    assert one_line_naming(raised, tmp_path / "OmbriaS1" / "train" / "BEFORE")


def test_a_missing_mask_names_the_file(root):
    path = path_of(root, "S1", "test", "mask", "0002")
    path.unlink()
    with pytest.raises(DecurError, match="not found") as raised:
        read(root, "0002-after")
    assert one_line_naming(raised, path)


@pytest.mark.parametrize("sensor", ["S1", "S2"])
def test_an_image_cut_short_names_the_file(root, sensor):
    path = path_of(root, sensor, "train", "after", "0001")
    cut_short(path)
    with pytest.raises(DecurError, match="truncated") as raised:
        read(root, "0001-after")
    assert one_line_naming(raised, path)


def test_an_image_of_zeros_names_the_file(root):
    path = path_of(root, "S1", "train", "after", "0001")
    write_png(path, np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(DecurError, match="every pixel is 0") as raised:
        read(root, "0001-after")
    assert one_line_naming(raised, path)


def test_a_mask_that_is_not_black_and_white_names_the_file(root):
    path = path_of(root, "S1", "train", "mask", "0001")
    write_png(path, np.full((SIDE, SIDE), 200, np.uint8))
    with pytest.raises(DecurError, match="label 200 is neither 0 nor 255") as raised:
        read(root, "0001-after")
    assert one_line_naming(raised, path)


def test_an_image_of_another_size_names_the_file(root):
    path = path_of(root, "S2", "train", "after", "0001")
    write_png(path, np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(DecurError, match="32 x 32 pixels, expected 64 x 64") as raised:
        read(root, "0001-after")
    assert one_line_naming(raised, path)


def test_a_grey_optical_image_names_the_file(root):
    path = path_of(root, "S2", "train", "after", "0001")
    write_png(path, np.zeros((64, 64), np.uint8))
    with pytest.raises(DecurError, match="1 bands of uint8, expected 3") as raised:
        read(root, "0001-after")
    assert one_line_naming(raised, path)


def test_the_real_places_are_read(real_frames, tmp_path):
    ombria.arrange_samples(real_frames, tmp_path)
    root = tmp_path
    settings = DatasetSettings(pixels=256)
    records = ombria.scan(root, settings)
    assert [sum(r.split == split for r in records) for split in ("train", "test")] == [400, 100]
    after = [ombria.read(r, settings) for r in records if r.id.endswith("-after")][:20]
    assert all(set(np.unique(sample.mask)) == {0, 1} for sample in after)
    water = np.mean([s.arrays["sar"][0, 0][s.mask == 1].mean() for s in after])
    land = np.mean([s.arrays["sar"][0, 0][s.mask == 0].mean() for s in after])
    assert water < land  # smooth water mirrors the radar away
