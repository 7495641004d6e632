"""HHA agrees with the released features, with known planes, and refuses what is no depth."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from decur.errors import DecurError
from decur.imagery.depth import NYU_INTRINSICS
from decur.imagery.hha import depth_to_hha

FLOOR, WALL, CEILING, NO_PLANE = 38, 128, 218, 218
SMALL = np.array([[55.0, 0.0, 32.5], [0.0, 55.0, 24.5], [0.0, 0.0, 1.0]])  # for (48, 64)


def rays(intrinsics, shape):
    row, column = np.indices(shape) + 1
    x = (column - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (row - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones(shape)], axis=-1)


def tilt(degrees):
    """The rotation of a camera that looks down by so many degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T


def room(*, camera_height=1.2, ceiling=2.6, back=4.0, side=2.0, looking_down=0.0, shape=(48, 64)):
    """Depth (H, W), and which plane each pixel shows: a room seen from a level or tilted camera."""
    intrinsics = SMALL * np.array([[shape[1] / 64], [shape[0] / 48], [1]])
    view = tilt(looking_down)  # from the room's axes to the camera's
    planes = {
        FLOOR: ((0, 1, 0), camera_height),
        CEILING: ((0, -1, 0), ceiling - camera_height),
        WALL: ((0, 0, 1), back),
        WALL + 1: ((1, 0, 0), side),
        WALL - 1: ((-1, 0, 0), side),
    }
    ray = rays(intrinsics, shape)
    inverse = np.stack([ray @ (view @ normal) / distance for normal, distance in planes.values()])
    return 1 / inverse.max(0), np.array(list(planes))[inverse.argmax(0)], intrinsics, view


def away_from_edges(label, radius=3):
    """Pixels whose whole window shows the one plane that they show."""
    return minimum_filter(label, 2 * radius + 1) == maximum_filter(label, 2 * radius + 1)


def test_the_real_frame_equals_the_released_features(nyu_frame):
    depth, _, golden, _ = nyu_frame
    error = np.abs(depth_to_hha(depth, NYU_INTRINSICS).astype(int) - golden)
    assert error.max() <= 1
    assert (error == 0).mean() > 0.9999


def test_the_real_frame_with_its_missing_mask_equals_the_released_features(nyu_frame):
    depth, raw, _, golden = nyu_frame
    hha = depth_to_hha(depth, NYU_INTRINSICS, missing=raw == 0)
    differs = np.abs(hha.astype(int) - golden).max(axis=2) > 1
    # There the pixels of the window lie on one line; the released angle is rounding noise.
    assert differs.mean() < 0.01
    assert (hha[differs][:, 2] == NO_PLANE).all()


@pytest.fixture(scope="module")
def nyu_frame(real_frames):
    folder = real_frames / "NYUDv2" / "Depth2HHA_demo"
    names = ("0.png", "0_raw.png", "hha_complete.png", "hha.png")
    depth, raw, complete, masked = (np.array(Image.open(folder / name)) for name in names)
    return depth / 1e4, raw, complete.astype(int), masked.astype(int)


@pytest.mark.parametrize("looking_down", [0, 10, -8, 20])
@pytest.mark.parametrize("shape", [(48, 64), (50, 61), (96, 128)])
def test_floor_walls_and_ceiling_have_their_angle_with_gravity(looking_down, shape):
    depth, label, intrinsics, _ = room(looking_down=looking_down, shape=shape)
    inside = away_from_edges(label)
    assert {FLOOR, CEILING} & set(label[inside])
    expected = np.where(abs(label - WALL) <= 1, WALL, label)
    error = np.abs(depth_to_hha(depth, intrinsics)[..., 2].astype(int) - expected)
    assert error[inside].max() <= 1


@pytest.mark.parametrize("looking_down", [0, 15])
def test_height_is_measured_from_the_floor_in_centimetres(looking_down):
    depth, _, intrinsics, view = room(looking_down=looking_down)
    points = depth[..., None] * rays(intrinsics, depth.shape) @ view
    height = np.clip(100 * (1.2 - points[..., 1]), 0, 255)
    assert np.abs(depth_to_hha(depth, intrinsics)[..., 1] - height).max() <= 2


def test_a_level_floor_is_exact():
    ray = rays(SMALL, (48, 64))
    depth = 1.2 / np.maximum(ray[..., 1], 0.1)
    floor = ray[..., 1] > 0.1
    hha = depth_to_hha(np.where(floor, depth, 0), SMALL)
    assert (hha[floor][:, 1] == 0).all()
    assert (hha[24 + 6 + 4 :, :, 2] == FLOOR).all()


def test_without_a_floor_in_sight_the_camera_is_taken_to_be_130_cm_high():
    hha = depth_to_hha(np.full((48, 64), 1.5), SMALL)
    expected = 130 - 150 * rays(SMALL, (48, 64))[..., 1]
    assert np.abs(hha[..., 1] - expected).max() <= 1


def test_a_wall_alone_stands_upright():
    hha = depth_to_hha(np.full((48, 64), 2.0), SMALL)
    assert (hha[..., 2] == WALL).all()
    assert (hha[..., 0] == 155).all()


def test_disparity_is_310_over_metres_and_saturates_within_one_metre():
    depth = np.array([[0.5, 1.0, 2.0, 3.1, 31.0]])
    assert depth_to_hha(depth, SMALL)[0, :, 0].tolist() == [255, 255, 155, 100, 10]


def test_readings_marked_missing_do_not_bend_the_planes():
    depth, _, intrinsics, _ = room()
    missing = np.zeros(depth.shape, bool)
    missing[10:14, 20:30] = True
    missing[40:43, 50:60] = True
    spoilt = np.where(missing, 0.3, depth)
    clean = depth_to_hha(depth, intrinsics, missing=missing)
    assert (depth_to_hha(spoilt, intrinsics, missing=missing)[..., 2] == clean[..., 2]).all()
    assert (depth_to_hha(spoilt, intrinsics)[..., 2] != clean[..., 2]).any()


@pytest.mark.parametrize("nothing", [0, 1e-12])
def test_depth_of_zero_is_missing_without_being_told(nothing):
    depth, _, intrinsics, _ = room()
    depth[5:9, 5:30] = nothing
    told = depth_to_hha(depth, intrinsics, missing=depth == nothing)
    assert (depth_to_hha(depth, intrinsics) == told).all()


def test_windows_without_a_plane_get_the_angle_180():
    depth = np.full((48, 64), 2.0)
    missing = np.zeros(depth.shape, bool)
    missing[:, 20:40] = True
    missing[:, 0:10] = True
    missing[:, 3] = False  # one column of readings is a line, not a plane
    angle = depth_to_hha(depth, SMALL, missing=missing)[..., 2]
    assert (angle[:, 23:37] == NO_PLANE).all()
    assert (angle[:, :7] == NO_PLANE).all()
    assert (angle[:, 10:20] == WALL).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (7, 3), (33, 65)])
def test_any_size_of_image_works(shape):
    hha = depth_to_hha(np.full(shape, 2.0, np.float32), SMALL)
    assert hha.shape == (*shape, 3)
    assert hha.dtype == np.uint8
    assert (hha[..., 2] == (NO_PLANE if min(shape) == 1 else WALL)).all()


def test_a_frame_without_any_reading_has_no_planes():
    assert (depth_to_hha(np.zeros((20, 20)), SMALL)[..., 2] == NO_PLANE).all()


def test_the_input_is_left_as_it_was():
    depth, _, intrinsics, _ = room()
    missing = np.zeros(depth.shape, bool)
    before = depth.copy()
    depth_to_hha(depth, intrinsics, missing=missing)
    assert (depth == before).all()
    assert not missing.any()


GOOD = np.full((4, 5), 2.0)


@pytest.mark.parametrize(
    ("depth", "intrinsics", "missing", "message"),
    [
        (np.where(np.eye(4, 5) > 0, np.nan, 2.0), SMALL, None, "depth: 4 of 20 pixels"),
        (np.full((4, 5), np.inf), SMALL, None, "not finite"),
        (-GOOD, SMALL, None, "negative"),
        (GOOD[None], SMALL, None, r"expected an image \(H, W\), got shape \(1, 4, 5\)"),
        (np.zeros((0, 5)), SMALL, None, "expected an image"),
        (GOOD.astype(np.uint16), SMALL, None, "expected float metres, got uint16"),
        (GOOD, np.eye(4), None, r"intrinsics: expected a finite \(3, 3\)"),
        (GOOD, SMALL * np.nan, None, "intrinsics: expected a finite"),
        (GOOD, -SMALL, None, "focal lengths must be positive pixels, got fx=-55, fy=-55"),
        (GOOD, SMALL, np.zeros((5, 4), bool), r"missing: expected a bool mask \(4, 5\)"),
        (GOOD, SMALL, np.zeros((4, 5)), "missing: expected a bool mask"),
    ],
)
def test_bad_input_is_named_in_one_line(depth, intrinsics, missing, message):
    with pytest.raises(DecurError, match=message) as raised:
        depth_to_hha(depth, intrinsics, missing=missing)
    assert "\n" not in str(raised.value)
