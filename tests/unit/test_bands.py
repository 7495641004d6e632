"""Raw values become 8-bit images as the paper scales them, whatever the raw values are."""

import numpy as np
import pytest

from decur.errors import DecurError
from decur.imagery.bands import (
    elevation_to_uint8,
    reflectance_to_uint8,
    resize,
    sar_db_to_uint8,
)

VV = ((-12.54847273,), (5.25697717,))


def test_reflectance_is_a_share_of_255():
    x = np.array([0, 40, 5000, 10_000], np.uint16)
    assert reflectance_to_uint8(x).tolist() == [0, 1, 127, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
def test_reflectance_above_one_stays_white_instead_of_wrapping_to_black(dtype):
    assert reflectance_to_uint8(np.array([10_100, 32_000], dtype)).tolist() == [255, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_reflectance_is_truncated_exactly(dtype):
    x = np.arange(10_001)
    np.testing.assert_array_equal(reflectance_to_uint8(x.astype(dtype)), x * 255 // 10_000)


def test_negative_reflectance_is_black():
    assert reflectance_to_uint8(np.array([-50, 0], np.int16)).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_reflectance_that_is_not_finite_is_refused(bad):
    with pytest.raises(DecurError, match="not finite"):
        reflectance_to_uint8(np.array([1, bad], np.float32))


def test_sar_matches_the_golden_values():
    x = np.repeat(np.array([-25, -12.5485, -5, 0], np.float32), 16).reshape(1, 8, 8)
    assert sar_db_to_uint8(x, *VV)[0, ::2, 0].tolist() == [0, 127, 219, 255]


def test_sar_outliers_are_clipped_to_the_percentiles_of_their_own_band():
    x = np.full((2, 20, 20), -12.0, np.float32)
    x[1] = -30.0
    x[:, 0, 0] = 25.0
    scaled = sar_db_to_uint8(x, (-12.0, -30.0), (5.0, 5.0))
    assert (scaled == 127).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sar_that_is_not_finite_is_refused_and_counted(bad):
    x = np.full((1, 4, 4), -12, np.float32)
    x[0, 0, :3] = bad
    with pytest.raises(DecurError, match="backscatter: 3 of 16 pixels are not finite"):
        sar_db_to_uint8(x, *VV)


def test_sar_with_more_bands_than_statistics_is_refused():
    with pytest.raises(DecurError, match="expected 1 bands"):
        sar_db_to_uint8(np.zeros((2, 4, 4), np.float32), *VV)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64])
def test_elevation_fills_the_range_between_its_percentiles(dtype):
    x = np.arange(101, dtype=dtype).reshape(1, 101)
    scaled = elevation_to_uint8(x)[0]
    assert scaled[[0, 1, 50, 99, 100]].tolist() == [0, 0, 127, 255, 255]
    assert (np.diff(scaled.astype(int)) >= 0).all()


def test_relief_is_kept_whatever_the_absolute_height():
    relief = np.random.default_rng(0).integers(0, 64, (16, 16)).astype(np.float32)
    np.testing.assert_array_equal(elevation_to_uint8(relief), elevation_to_uint8(relief + 4096))


def test_a_flat_image_gives_zeros():
    assert not elevation_to_uint8(np.full((8, 8), 321.5, np.float32)).any()


def test_missing_elevation_is_refused():
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    x[-1, -1] = np.nan
    with pytest.raises(DecurError, match="elevation: 1 of 64 pixels are not finite"):
        elevation_to_uint8(x)


@pytest.mark.parametrize("no_data", [-9999, -32768, 32767, -3.4e38])
def test_numbers_that_stand_for_no_elevation_are_refused(no_data):
    x = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    x[-1, -1] = no_data
    with pytest.raises(DecurError, match="is no height on Earth"):
        elevation_to_uint8(x)


def test_the_lowest_and_the_highest_ground_are_elevations():
    assert elevation_to_uint8(np.array([-430, 8849], np.int16)).tolist() == [0, 255]


KERNELS = ["bilinear", "bicubic", "nearest"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(12, 12), (3, 12, 12)])
def test_resizing_to_the_same_size_changes_nothing(shape, kernel):
    x = np.random.default_rng(0).integers(0, 9999, shape).astype(np.uint16)
    np.testing.assert_array_equal(resize(x, 12, kernel), x)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_resizing_keeps_the_type_and_every_band(dtype):
    x = np.random.default_rng(0).integers(0, 200, (3, 8, 10)).astype(dtype)
    for kernel in KERNELS:
        resized = resize(x, 20, kernel)
        assert resized.dtype == dtype
        assert resized.shape == (3, 20, 20)
        np.testing.assert_array_equal(resized[1], resize(x[1], 20, kernel))


def test_enlarging_interpolates_between_pixel_centres_and_repeats_the_border():
    ramp = np.array([[0, 4], [0, 4]], np.float32)
    assert resize(ramp, 4)[0].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(("side", "factor"), [(44, 6), (132, 2)])
def test_enlarging_keeps_a_plane_where_it_is_on_the_ground(side, factor):
    def plane(n):
        centre = (np.arange(n) + 0.5) / n
        return (3000 * centre[:, None] + 5000 * centre).astype(np.float32)

    inside = slice(factor, -factor)
    enlarged = resize(plane(side), side * factor)
    np.testing.assert_allclose(
        enlarged[inside, inside], plane(side * factor)[inside, inside], rtol=1e-4
    )


def test_shrinking_averages_what_would_alias():
    stripes = np.tile(np.array([0, 100], np.float32), (64, 32))
    assert np.abs(resize(stripes, 16)[:, 1:-1] - 50).max() < 2


def test_bicubic_passes_a_curve_that_bilinear_cuts_and_stays_within_its_type():
    curve = np.square(np.arange(16.0)) * np.ones((16, 1))
    wanted = np.square((np.arange(32) + 0.5) / 2 - 0.5)[8:24]
    errors = [np.abs(resize(curve, 32, kernel)[0, 8:24] - wanted).max() for kernel in KERNELS]
    assert errors[1] < 1e-3 < 0.1 < errors[0]
    edge = np.repeat(np.array([0, 65535], np.uint16), 8) * np.ones((16, 1), np.uint16)
    overshot = resize(edge, 32, "bicubic")[0]
    assert (overshot[:15].max(), overshot[17:].min()) < (9000, 56000)
    assert overshot[14] == 0 and overshot[17] == 65535


def test_nearest_invents_no_label():
    labels = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (25, 25))
    assert set(np.unique(resize(labels, 40, "nearest"))) <= {0, 7, 255}
    np.testing.assert_array_equal(resize(resize(labels, 75, "nearest"), 25, "nearest"), labels)


def test_a_vector_is_no_image():
    with pytest.raises(DecurError, match="expected an image"):
        resize(np.zeros(5), 4)
