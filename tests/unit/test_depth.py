"""SUN-RGBD depth files become metres, and intrinsics files a camera matrix."""

import numpy as np
import pytest
from PIL import Image

from decur.errors import DecurError
from decur.imagery.depth import decode_sun_depth, read_intrinsics

MATRIX = [[529.5, 0.0, 365.0], [0.0, 529.5, 265.0], [0.0, 0.0, 1.0]]


def test_the_bits_are_rotated_back_to_millimetres():
    millimetres = np.array([[0, 1, 1234, 7999]], np.uint16)
    stored = (millimetres << 3) | (millimetres >> 13)
    metres = decode_sun_depth(stored)
    assert metres.dtype == np.float32
    np.testing.assert_allclose(metres, [[0, 0.001, 1.234, 7.999]], rtol=1e-6)


def test_the_low_bits_of_the_file_are_the_high_bits_of_the_depth():
    assert decode_sun_depth(np.array([[1]], np.uint16)) == 8.0  # 8192 mm, clipped


def test_depth_is_clipped_at_eight_metres():
    assert decode_sun_depth(np.array([[8001 << 3]], np.uint16)) == 8.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_depth_that_is_not_16_bit_is_refused(dtype):
    with pytest.raises(DecurError, match="expected uint16"):
        decode_sun_depth(np.zeros((2, 2), dtype))


@pytest.mark.parametrize("separator", ["\n", " "])
def test_intrinsics_are_read_from_one_line_or_three(tmp_path, separator):
    path = tmp_path / "intrinsics.txt"
    path.write_text(separator.join(" ".join(f"{v:f}" for v in row) for row in MATRIX) + " \n")
    assert read_intrinsics(path).tolist() == MATRIX


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected nine numbers of a camera matrix, got 3"),
        ("a b c d e f g h i", "expected nine numbers"),
        ("-1 0 3 0 5 6 0 0 1", "focal lengths must be positive pixels, got fx=-1, fy=5"),
        ("nan 0 3 0 5 6 0 0 1", "focal lengths"),
    ],
)
def test_bad_intrinsics_name_the_file(tmp_path, text, message):
    path = tmp_path / "intrinsics.txt"
    path.write_text(text)
    with pytest.raises(DecurError, match=message) as raised:
        read_intrinsics(path)
    assert str(path) in str(raised.value)


def test_a_missing_intrinsics_file_is_named(tmp_path):
    with pytest.raises(DecurError, match=r"intrinsics\.txt: "):
        read_intrinsics(tmp_path / "intrinsics.txt")


def test_real_frames_decode_to_the_depths_of_a_room(real_frames):
    frames = sorted(real_frames.glob("SUNRGBD/sunrgbd-toy/images/*/depth_bfx/*.png"))
    assert frames
    for frame in frames:
        metres = decode_sun_depth(np.array(Image.open(frame)))
        assert 1 < np.median(metres) < 5
        assert read_intrinsics(frame.parents[1] / "intrinsics.txt")[0, 0] > 500
