import numpy as np
import pytest
from PIL import Image

from decur.config import DatasetSettings
from decur.datasets import sun_rgbd
from decur.errors import DecurError
from tests.support.sun_rgbd import HEIGHT, WIDTH, write_frame, write_label, write_lists

SETTINGS = DatasetSettings(pixels=32)
FIRST, SECOND = "SUNRGBD/kv1/b3dodata/a", "SUNRGBD/xtion/sun3ddata/place/room/b"


@pytest.fixture
def root(tmp_path):
    write_frame(tmp_path, FIRST)
    write_frame(tmp_path, SECOND)
    write_lists(tmp_path, test=[SECOND], train=[FIRST])
    return tmp_path


def test_frames_are_numbered_by_the_official_lists_test_first(root):
    records = sun_rgbd.scan(root, SETTINGS)
    assert [(r.id, r.split, r.place) for r in records] == [
        ("img-000001", "test", "xtion/sun3ddata"),
        ("img-000002", "train", "kv1/b3dodata"),
    ]


def test_without_lists_frames_are_train_in_order_of_their_paths(root):
    for path in (root / "meta").iterdir():
        path.unlink()
    records = sun_rgbd.scan(root, SETTINGS)
    assert [(r.id, r.split, r.place) for r in records] == [
        ("img-000001", "train", "kv1/b3dodata"),
        ("img-000002", "train", "xtion/sun3ddata"),
    ]


def test_a_frame_becomes_colour_and_hha_of_the_stored_side(root):
    sample = sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)
    assert {name: x.shape for name, x in sample.arrays.items()} == {
        "rgb": (1, 3, 32, 32),
        "hha": (1, 3, 32, 32),
    }
    assert all(x.dtype == np.uint8 for x in sample.arrays.values())
    disparity = sample.arrays["hha"][0, 0]
    assert disparity[0].mean() == pytest.approx(310 / 4, abs=2)
    assert disparity[-1].mean() == pytest.approx(310 / 2, abs=4)


def test_labels_lose_one_and_unlabelled_pixels_are_ignored(root):
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[:, WIDTH // 2 :] = 37
    write_label(root, 1, labels)
    mask = sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS).mask
    assert (mask[:, :16] == 255).all() and (mask[:, 16:] == 36).all()


def test_a_frame_without_labels_is_ignored_whole(root):
    assert (sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[1], SETTINGS).mask == 255).all()


def test_there_are_37_classes_each_of_its_own_colour():
    dataset = sun_rgbd.DATASET
    assert (len(dataset.classes), dataset.classes[0], dataset.classes[-1]) == (37, "wall", "bag")
    assert len(set(dataset.colours)) == 37
    assert all(0 <= value <= 255 for colour in dataset.colours for value in colour)


def test_a_label_above_37_is_named(root):
    write_label(root, 1, np.full((HEIGHT, WIDTH), 38, dtype=np.uint8))
    with pytest.raises(DecurError, match=r"img-000001\.png: label 38\b"):
        sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)


def test_labels_of_another_size_are_named(root):
    write_label(root, 1, np.zeros((HEIGHT, HEIGHT), dtype=np.uint8))
    with pytest.raises(DecurError, match=r"img-000001.png: labels are \(48, 48\)"):
        sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)


def test_a_truncated_depth_is_named(root):
    path = root / SECOND / "depth_bfx" / "0001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DecurError, match=r"depth_bfx/0001.png: truncated"):
        sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)


def test_a_depth_of_eight_bits_is_named(root):
    path = root / SECOND / "depth" / "0001.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint8)).save(path)
    with pytest.raises(DecurError, match=r"depth/0001.png: depth is uint8"):
        sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)


def test_a_frame_without_depth_has_a_fault(root):
    (root / SECOND / "depth_bfx" / "0001.png").unlink()
    faulty, whole = sun_rgbd.scan(root, SETTINGS)
    assert "b/depth_bfx: 0 PNG files, expected one" in faulty.fault and not whole.fault


def test_a_listed_frame_that_is_not_there_has_a_fault(root):
    (root / FIRST / "image" / "0001.jpg").unlink()
    whole, faulty = sun_rgbd.scan(root, SETTINGS)
    assert "a/image/0001.jpg: listed but not found" in faulty.fault and not whole.fault


def test_a_frame_that_is_listed_in_both_splits_has_a_fault(root):
    with (root / "meta" / "sunrgbd_training_images.txt").open("a") as file:
        file.write(f"{SECOND}/image/0001.jpg\n")
    faults = [record.fault for record in sun_rgbd.scan(root, SETTINGS)]
    assert faults[:2] == ["", ""]
    assert "listed as img-000001 and img-000003" in faults[2]


def test_depth_without_a_single_reading_is_named(root):
    path = root / SECOND / "depth_bfx" / "0001.png"
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint16)).save(path)
    with pytest.raises(DecurError, match=r"depth_bfx/0001\.png: every pixel is 0"):
        sun_rgbd.read(sun_rgbd.scan(root, SETTINGS)[0], SETTINGS)


def test_one_list_without_the_other_is_an_error(root):
    (root / "meta" / "sunrgbd_testing_images.txt").unlink()
    with pytest.raises(DecurError, match=r"sunrgbd_testing_images.txt: not found"):
        sun_rgbd.scan(root, SETTINGS)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DecurError, match="no frame in SUNRGBD/"):
        sun_rgbd.scan(tmp_path, SETTINGS)


def test_the_real_frames_of_two_cameras_are_read(real_frames, tmp_path):
    sun_rgbd.arrange_samples(real_frames, tmp_path)
    records = sun_rgbd.scan(tmp_path, SETTINGS)
    assert len(records) == 32 and {r.split for r in records} == {"train"}
    for place in ("kv1/b3dodata", "kv2/align_kv2", "kv2/kinect2data"):
        record = next(r for r in records if r.place == place)
        hha = sun_rgbd.read(record, SETTINGS).arrays["hha"][0]
        assert 30 < hha[0].mean() < 250  # an office is 1.2 to 10 m deep
        assert hha[2].std() > 10  # and has floors as well as walls


@pytest.mark.parametrize("part", ["image/0001.jpg", "depth/0001.png", "intrinsics.txt"])
def test_a_bad_training_frame_is_left_out_and_a_bad_test_frame_is_refused(root, skipping, part):
    (root / FIRST / part).write_bytes(b"rubbish")
    found = skipping("sun-rgbd")
    assert found.counts == {"test": 1} and found.quarantined_by_split == {"train": 1}
    (root / SECOND / part).write_bytes(b"rubbish")
    write_frame(root, "SUNRGBD/kv2/kinect2data/c")
    write_lists(root, test=[SECOND], train=[FIRST, "SUNRGBD/kv2/kinect2data/c"])
    with pytest.raises(DecurError, match="1 of 1 samples of the evaluation split 'test' are bad"):
        skipping("sun-rgbd")
