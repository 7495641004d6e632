"""Pairs on grids that differ: half a pixel is nothing, more is aligned on demand."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform
from rasterio.windows import Window

from decur.config import DatasetSettings
from decur.datasets.folders import Folders
from decur.errors import DecurError
from decur.imagery.grids import Grid, common_area
from tests.support.rasters import one_line_naming

UTM = CRS.from_epsg(32634)
PIXEL = 10.0
CORNER = (500_000.0, 6_000_000.0)
PIXELS = 32
ACROSS, DOWN = 1.5, -2.5  # change of the ramp from metre to metre
LIMITS = (-100.0, 400.0)


def ramp(place, height, width, crs=UTM):
    """A plane on the ground, at the centres of pixels: linear interpolation is exact on it."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = place @ (columns, rows)
    if crs != UTM:
        x, y = (np.reshape(c, x.shape) for c in transform(crs, UTM, x.ravel(), y.ravel()))
    return 100 + ACROSS * (x - CORNER[0]) / PIXEL + DOWN * (y - CORNER[1]) / PIXEL


def place(shift=(0.0, 0.0), pixel=PIXEL):
    left, top = CORNER[0] + shift[0] * PIXEL, CORNER[1] - shift[1] * PIXEL
    return Affine(pixel, 0, left, 0, -pixel, top)


def save(folder, height, width, transform=None, crs=UTM, image=None, name="x"):
    image = ramp(transform, height, width, crs) if image is None else image
    folder.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "height": height, "width": width}
    profile |= {"dtype": image.dtype.name, "crs": crs, "transform": transform}
    with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
        file.write(image[None])
    return image


def made(raw, align="refuse", cut=False, masks=False, pixels=PIXELS):
    """The stored samples of one pair, scaled so that steps of the ramp are seen."""
    modality = {"folder": ".", "bands": ["z"], "scale": LIMITS}
    own = {"modalities": {"a": modality, "b": modality}, "align": align, "cut": cut}
    own |= {"masks": ".", "classes": ["one", "two"]} if masks else {}
    given = DatasetSettings(source="folders", pixels=pixels, folders=own)
    dataset = Folders("mine", given.folders)
    return [dataset.read(record, given) for record in dataset.scan(raw, given)]


def to_8_bits(x):
    return (x - LIMITS[0]) / (LIMITS[1] - LIMITS[0]) * 255


shifts = st.tuples(*[st.floats(-0.49, 0.49)] * 2)


@given(shift=shifts, more=st.tuples(*[st.integers(-1, 1)] * 2))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_up_to_half_a_pixel_and_a_row_more_or_less_are_the_same_grid(tmp_path, shift, more):
    a = save(tmp_path / "a", PIXELS, PIXELS, place())
    b = save(tmp_path / "b", PIXELS + more[0], PIXELS + more[1], place(shift))
    size = PIXELS + min(more[0], 0), PIXELS + min(more[1], 0)
    (sample,) = made(tmp_path, pixels=size)
    for name, image in (("a", a), ("b", b)):
        stored = to_8_bits(image[: size[0], : size[1]]).astype(np.uint8)
        np.testing.assert_array_equal(sample.arrays[name][0, 0], stored)
    assert sample.georeference.transform == place()[:6]


@given(
    shift=st.tuples(*[st.floats(-8, 8)] * 2).filter(lambda s: max(map(abs, s)) > 0.51),
    pixel=st.sampled_from([10.0, 20.0, 4.0]),
    align=st.sampled_from(["bilinear", "nearest"]),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_beyond_half_a_pixel_it_is_an_error_or_aligned(tmp_path, shift, pixel, align):
    save(tmp_path / "a", PIXELS, PIXELS, place())
    side = int(PIXELS * PIXEL / pixel)
    save(tmp_path / "b", side, side, place(shift, pixel))
    with pytest.raises(DecurError, match="set `align: bilinear` or `nearest`") as raised:
        made(tmp_path)
    assert one_line_naming(raised, tmp_path / "b" / "x.tif")
    settings_of = DatasetSettings(
        source="folders",
        pixels=16,
        folders={
            "modalities": {m: {"folder": ".", "bands": ["z"], "scale": LIMITS} for m in ("a", "b")},
            "align": align,
            "cut": True,
        },
    )
    dataset = Folders("mine", settings_of.folders)
    records = dataset.scan(tmp_path, settings_of)
    assert records and not any(record.fault for record in records)
    for record in records:
        sample = dataset.read(record, settings_of)
        expected = to_8_bits(ramp(Affine(*sample.georeference.transform), 16, 16))
        np.testing.assert_allclose(sample.arrays["a"][0, 0], np.floor(expected), atol=1)
        # Nearest is off by half a pixel of the other each way; at a border bilinear is as well.
        slope = (abs(ACROSS) + abs(DOWN)) * 255 / (LIMITS[1] - LIMITS[0])
        most = slope * max(pixel, PIXEL) / PIXEL / 2 + 2
        np.testing.assert_allclose(sample.arrays["b"][0, 0], expected, atol=most)
        if align == "bilinear" and pixel >= PIXEL:
            inner = np.s_[2:-2, 2:-2]
            np.testing.assert_allclose(sample.arrays["b"][0, 0][inner], expected[inner], atol=1.1)


def test_masks_are_aligned_by_nearest(tmp_path):
    for name in "ab":
        save(tmp_path / name, PIXELS, PIXELS, place())
    labels = np.zeros((PIXELS, PIXELS), np.uint8)
    labels[:, 16:] = 1
    save(tmp_path / "mask", PIXELS, PIXELS, place((3, 0)), image=labels)
    with pytest.raises(DecurError, match=r"mask/x\.tif: .*3\.00"):
        made(tmp_path, masks=True)
    (sample,) = made(tmp_path, "bilinear", masks=True, pixels=(PIXELS, PIXELS - 3))
    expected = np.zeros((PIXELS, PIXELS - 3), np.uint8)
    expected[:, 16:] = 1
    np.testing.assert_array_equal(sample.mask, expected)


def test_other_coordinates_are_aligned_too(tmp_path):
    """UTM of two zones: they lie askew to one another."""
    save(tmp_path / "a", PIXELS, PIXELS, place())
    other = CRS.from_epsg(32633)
    (left,), (top,) = transform(UTM, other, [CORNER[0]], [CORNER[1]])
    there = Affine(PIXEL, 0, left - 200, 0, -PIXEL, top + 200)
    save(tmp_path / "b", PIXELS + 40, PIXELS + 40, there, other)
    with pytest.raises(DecurError, match=r"EPSG:32633.*EPSG:32634.*`align"):
        made(tmp_path)
    (sample,) = made(tmp_path, "bilinear")
    expected = to_8_bits(ramp(place(), PIXELS, PIXELS))
    np.testing.assert_allclose(sample.arrays["b"][0, 0], expected, atol=1.1)


@pytest.mark.parametrize("align", ["refuse", "nearest", "bilinear"])
def test_another_place_is_an_error_whatever_the_setting(tmp_path, align):
    save(tmp_path / "a", PIXELS, PIXELS, place())
    save(tmp_path / "b", PIXELS, PIXELS, place((20, 0)))
    with pytest.raises(DecurError, match=r"a/x\.tif.*38%"):
        made(tmp_path, align)


def test_a_south_up_image_is_not_taken_as_it_is(tmp_path):
    """Its first row is the last on the ground."""
    save(tmp_path / "a", PIXELS, PIXELS, place())
    up = Affine(PIXEL, 0, CORNER[0], 0, PIXEL, CORNER[1] - PIXELS * PIXEL)
    save(tmp_path / "b", PIXELS, PIXELS, up)
    with pytest.raises(DecurError, match="set `align"):
        made(tmp_path)
    (sample,) = made(tmp_path, "nearest")
    np.testing.assert_array_equal(sample.arrays["a"], sample.arrays["b"])


def test_images_without_a_place_need_one_size(tmp_path):
    for name, side in (("a", PIXELS), ("b", PIXELS + 1)):
        image = np.zeros((side, side), np.float32)
        save(tmp_path / name, side, side, None, None, image=image)
    for align in ("refuse", "bilinear"):
        with pytest.raises(DecurError, match="is not georeferenced; resample one"):
            made(tmp_path, align)


def test_three_images_have_the_area_of_all():
    def grid(shift, side):
        return Grid(Path(f"{shift}"), side, side, place(shift), UTM)

    area = common_area([grid((0, 0), 32), grid((2, 0), 32), grid((0, -3), 32)], interpolated=True)
    assert (area.width, area.height) == (30, 29)
    assert area.transform(Window(0, 0, 1, 1)) == place((2, 0))


@pytest.mark.parametrize("align", ["refuse", "bilinear"])
def test_published_pairs_as_they_are(real_frames, align):
    """Eleven of So2Sat-POP: seven lie within half a pixel, two 0.52 pixels apart, two elsewhere."""
    raw = real_frames / "So2Sat-POP" / "raw"
    own = DatasetSettings(
        source="folders",
        pixels=100,
        folders={
            "modalities": {
                "rgb": {"folder": ".", "bands": ["red", "green", "blue"], "scale": [0, 4000]},
                "dem": {"folder": ".", "bands": ["elevation"], "scale": [-50, 300]},
            },
            "align": align,
        },
    )
    dataset = Folders("so2sat", own.folders)
    faults = {}
    for record in dataset.scan(raw, own):
        try:
            sample = dataset.read(record, own)
            assert sample.arrays["rgb"].shape == (1, 3, 100, 100)
        except DecurError as error:
            faults[record.id] = str(error)
    elsewhere = {name for name, fault in faults.items() if "lies elsewhere than" in fault}
    beside = {name for name, fault in faults.items() if "0.52 pixels from those of" in fault}
    assert elsewhere == {"gdansk_39", "gdansk_50"}
    apart = {"lublin_1kmN3199E5191", "lublin_1kmN3211E5195"}
    assert beside == (apart if align == "refuse" else set())
    assert faults.keys() == elsewhere | beside
