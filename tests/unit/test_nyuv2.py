import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from decur.config import DatasetSettings
from decur.datasets import nyuv2, sun_rgbd
from decur.errors import DecurError

SETTINGS = DatasetSettings(pixels=32)
HEIGHT, WIDTH = 48, 64
METRES = np.tile(np.linspace(4, 2, HEIGHT)[:, None], (1, WIDTH)).astype(np.float32)


def write_splits(root: Path) -> None:
    splits = {"trainNdxs": np.array([[2]], np.uint16), "testNdxs": np.array([[1], [3]], np.uint16)}
    scipy.io.savemat(root / "splits.mat", splits)


def write_archive(root: Path, labels: np.ndarray) -> None:
    """Three equal frames as MATLAB stores them: columns first."""
    colour = np.random.default_rng(0).integers(0, 256, (3, WIDTH, HEIGHT), dtype=np.uint8)
    raw = METRES.copy()
    raw[:8] = 0
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([colour] * 3)
        file["depths"] = np.stack([METRES.T] * 3)
        file["rawDepths"] = np.stack([raw.T] * 3)
        file["labels"] = np.stack([labels.T] * 3).astype(np.uint16)
    mapping = np.full((1, 894), 40, dtype=np.uint8)
    mapping[0, 4] = 7  # the fifth name
    scipy.io.savemat(root / "classMapping40.mat", {"mapClass": mapping})


@pytest.fixture
def archive(tmp_path):
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    labels[:, WIDTH // 2 :] = 5
    labels[: HEIGHT // 2, WIDTH // 2 :] = 894
    write_splits(tmp_path)
    write_archive(tmp_path, labels)
    return tmp_path


@pytest.fixture
def images(tmp_path):
    write_splits(tmp_path)
    for folder in ("color", "depth", "label40"):
        (tmp_path / folder).mkdir()
    colour = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name in ("0001.png", "0002.png"):
        Image.fromarray(colour).save(tmp_path / "color" / name)
        Image.fromarray((1000 * METRES).astype(np.uint16)).save(tmp_path / "depth" / name)
    labels = np.full((HEIGHT, WIDTH), 40, dtype=np.uint8)
    labels[0] = 0
    Image.fromarray(labels).save(tmp_path / "label40" / "0002.png")
    return tmp_path


def test_frames_have_the_official_split_and_count_from_one(archive):
    records = nyuv2.scan(archive, SETTINGS)
    assert [(r.id, r.split) for r in records] == [
        ("0001", "test"),
        ("0002", "train"),
        ("0003", "test"),
    ]


def test_the_archive_is_turned_upright(archive):
    settings = DatasetSettings(pixels=48)
    sample = nyuv2.read(nyuv2.scan(archive, settings)[0], settings)
    assert sample.arrays["rgb"].shape == sample.arrays["hha"].shape == (1, 3, 48, 48)
    disparity = sample.arrays["hha"][0, 0]
    assert disparity[0].mean() == pytest.approx(310 / 4, abs=2)
    assert disparity[-1].mean() == pytest.approx(310 / 2, abs=4)


def test_names_become_40_classes_and_unlabelled_pixels_are_ignored(archive):
    mask = nyuv2.read(nyuv2.scan(archive, SETTINGS)[0], SETTINGS).mask
    assert (mask[:, :16] == 255).all()
    assert (mask[:16, 16:] == 39).all() and (mask[16:, 16:] == 6).all()


def test_images_are_read_as_the_archive_is(images):
    records = nyuv2.scan(images, SETTINGS)
    assert [(r.id, r.split) for r in records] == [("0001", "test"), ("0002", "train")]
    sample = nyuv2.read(records[1], SETTINGS)
    assert sample.arrays["hha"].shape == (1, 3, 32, 32)
    assert set(np.unique(sample.mask)) == {39, 255}


def test_an_image_without_labels_is_ignored_whole(images):
    assert (nyuv2.read(nyuv2.scan(images, SETTINGS)[0], SETTINGS).mask == 255).all()


def test_there_are_40_classes_of_which_sun_rgbd_has_the_first_37():
    assert len(nyuv2.DATASET.classes) == len(set(nyuv2.DATASET.colours)) == 40
    assert nyuv2.DATASET.classes[:37] == sun_rgbd.DATASET.classes


def test_a_label_above_40_is_named(images):
    path = images / "label40" / "0002.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 41, dtype=np.uint8)).save(path)
    with pytest.raises(DecurError, match=r"label40/0002\.png: label 41\b"):
        nyuv2.read(nyuv2.scan(images, SETTINGS)[1], SETTINGS)


def test_a_name_that_the_mapping_lacks_is_an_error(archive):
    write_archive(archive, np.full((HEIGHT, WIDTH), 895))
    with pytest.raises(DecurError, match=r"labeled\.mat: label 895\b"):
        nyuv2.read(nyuv2.scan(archive, SETTINGS)[0], SETTINGS)


def test_a_truncated_image_is_named(images):
    path = images / "color" / "0001.png"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DecurError, match=r"color/0001.png: truncated"):
        nyuv2.read(nyuv2.scan(images, SETTINGS)[0], SETTINGS)


def test_a_truncated_archive_is_named(archive):
    path = archive / "nyu_depth_v2_labeled.mat"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DecurError, match=r"labeled.mat: truncated") as caught:
        nyuv2.scan(archive, SETTINGS)
    assert "\n" not in str(caught.value)


def test_a_frame_without_depth_has_a_fault(images):
    (images / "depth" / "0001.png").unlink()
    faulty, whole = nyuv2.scan(images, SETTINGS)
    assert "depth/0001.png: not found" in faulty.fault and not whole.fault


def test_a_number_that_two_files_have_comes_twice_and_is_not_overwritten(images):
    for folder in ("color", "depth"):
        shutil.copy(images / folder / "0001.png", images / folder / "1.png")
    assert [r.id for r in nyuv2.scan(images, SETTINGS)] == ["0001", "0001", "0002"]


def test_an_archive_that_holds_something_else_is_named(archive):
    path = archive / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "r+") as file:
        del file["images"]
        file["images"] = np.dtype("f4")  # a named type where an array should be
    with pytest.raises(DecurError, match=r"labeled\.mat: "):
        nyuv2.scan(archive, SETTINGS)


@pytest.mark.parametrize("name", ["splits.mat", "classMapping40.mat"])
def test_a_missing_toolbox_file_is_named(archive, name):
    (archive / name).unlink()
    with pytest.raises(DecurError, match=f"{name}: not found"):
        nyuv2.read(nyuv2.scan(archive, SETTINGS)[0], SETTINGS)


def test_a_frame_of_no_split_is_an_error(images):
    for folder in ("color", "depth"):
        (images / folder / "0001.png").rename(images / folder / "0009.png")
    with pytest.raises(DecurError, match=r"splits.mat: frame 9 is in no split"):
        nyuv2.scan(images, SETTINGS)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DecurError, match=r"neither nyu_depth_v2_labeled.mat nor color"):
        nyuv2.scan(tmp_path, SETTINGS)


def test_the_real_frames_have_the_official_split_and_one_is_labelled(real_frames, tmp_path):
    nyuv2.arrange_samples(real_frames, tmp_path)
    records = nyuv2.scan(tmp_path, SETTINGS)
    assert [r.id for r in records if r.split == "test"] == [
        f"{n:04d}" for n in (1, 2, 9, 14, 15, 16, 17, 18)
    ]
    assert len(records) == 18
    first, second = (nyuv2.read(record, SETTINGS) for record in records[:2])
    assert first.mask.min() == 0 and (second.mask == 255).all()
    hha = first.arrays["hha"][0]
    assert 70 < hha[0].mean() < 180  # this kitchen is 1.8 to 3.6 m deep
    assert hha[2].std() > 10


def test_the_official_mapping_gives_our_class_names(real_frames, tmp_path):
    mapping = scipy.io.loadmat(real_frames / "NYUDv2/meta_ankurhanda/classMapping40.mat")
    names = [str(name[0]) for name in mapping["className"][0]]
    official = {"refridgerator": "refrigerator"}  # as it is spelt there
    official |= {f"other{kind}": f"other {kind}" for kind in ("structure", "furniture", "prop")}
    assert [official.get(name, name) for name in names] == list(nyuv2.DATASET.classes)


def test_a_bad_training_frame_is_left_out_and_a_bad_test_frame_is_refused(archive, skipping):
    with h5py.File(archive / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["depths"][1] = np.nan
    found = skipping("nyuv2")
    assert found.counts == {"test": 2} and found.quarantined_by_split == {"train": 1}
    with h5py.File(archive / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["labels"][2] = 3000
    with pytest.raises(DecurError, match="1 of 2 samples of the evaluation split 'test' are bad"):
        skipping("nyuv2")


def test_a_bad_frame_of_images_is_left_out(images, skipping):
    (images / "color" / "0002.png").write_bytes(b"rubbish")
    found = skipping("nyuv2")
    assert found.counts == {"test": 1} and found.quarantined_by_split == {"train": 1}
    assert found.left_out == {"listed in a split, but not there": 1}


def test_a_frame_of_both_splits_is_an_error(images):
    both = {"trainNdxs": np.array([[2], [1]], np.uint16), "testNdxs": np.array([[1]], np.uint16)}
    scipy.io.savemat(images / "splits.mat", both)
    with pytest.raises(DecurError, match=r"splits\.mat: frame 1 is in both splits"):
        nyuv2.scan(images, SETTINGS)
