"""Whatever a raster declares, every reader of the package makes the same values of it."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from decur.config import DatasetSettings
from decur.datasets.folder_limits import _thumbnail
from decur.datasets.folders import Folders
from decur.datasets.sentinel import METRES, read_optical
from decur.datasets.terramind import SCALE
from decur.embed.rasters import read_bands
from decur.errors import DecurError
from decur.imagery.bands import range_to_uint8, sar_db_to_uint8
from decur.imagery.images import read_image
from decur.imagery.pixels import GDAL, opened
from decur.imagery.rasters import DTYPES, read_raster
from tests.support.hostile_files import write

LIMITS = [(-50.0, 700.0), (0.0, 1000.0)]
SIDE = 16

rasters = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
        "scales": st.sampled_from([None, 0.01, 0.5, 3.0]),
        "offsets": st.sampled_from([None, -100.0, 0.25]),
        "nodata": st.sampled_from([None, 7, 99, 240]),
        "mask": st.sampled_from(["none", "inside", "beside"]),
        "nan": st.booleans(),
        "tiled": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def made(path: Path, tags: dict) -> tuple[np.ndarray, np.ndarray]:
    """Write a raster of two bands; the values that it stands for, and which are valid."""
    rng = np.random.default_rng(tags["seed"])
    stored = rng.integers(0, 256, (2, SIDE, SIDE)).astype(tags["dtype"])
    valid = np.ones(stored.shape, bool)
    if tags["nodata"] is not None:
        valid &= stored != tags["nodata"]
    mask = None
    if tags["mask"] != "none":
        mask = rng.random((SIDE, SIDE)) > 0.2
        valid &= mask
    if tags["nan"] and stored.dtype.kind == "f":
        stored[0, 0, 0] = np.nan
        valid[0, 0, 0] = False
    for side in path.parent.glob(f"{path.name}*"):
        side.unlink()
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tags["tiled"] else {}
    inside = mask if tags["mask"] == "inside" else None
    tags_given = {key: tags[key] for key in ("scales", "offsets", "nodata")}
    write(path, stored, mask=inside, **tags_given, **tiles)
    if tags["mask"] == "beside":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(mask)
    values = stored.astype(np.float64) * (tags["scales"] or 1) + (tags["offsets"] or 0)
    return values, valid


class Plain:
    """All that `read_bands` asks of an encoder."""

    def __init__(self):
        self.transform = {"scaling": "none"}


@given(tags=rasters)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_reader_applies_scale_offset_nodata_and_masks(tmp_path, tags):
    path = tmp_path / "raw" / "a" / "x.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    values, valid = made(path, tags)
    expected = np.where(valid, values, np.nan)

    with rasterio.Env(**GDAL), opened(path) as file:
        found, good = read_bands(Plain(), path, file, [0, 1])
    np.testing.assert_array_equal(good, valid.all(axis=0))
    np.testing.assert_allclose(found[:, good], values[:, good], rtol=1e-12)

    sampled = _thumbnail(path, ("one", "two")).reshape(values.shape)
    np.testing.assert_allclose(sampled, expected, rtol=1e-12)

    if tags["dtype"] in DTYPES["elevation"]:
        np.testing.assert_allclose(read_raster(path, "elevation", 2), expected, rtol=1e-12)

    own = DatasetSettings(
        source="folders",
        pixels=SIDE,
        folders={
            "modalities": {
                m: {"folder": ".", "bands": ["one", "two"], "scale": LIMITS} for m in ("a", "b")
            }
        },
    )
    dataset = Folders("mine", own.folders)
    (tmp_path / "raw" / "b").unlink(missing_ok=True)
    (tmp_path / "raw" / "b").symlink_to(tmp_path / "raw" / "a")
    (record,) = dataset.scan(tmp_path / "raw", own)
    if valid.all():
        stored = dataset.read(record, own).arrays["a"][0]
        np.testing.assert_array_equal(stored, range_to_uint8(values, LIMITS))
    else:
        with pytest.raises(DecurError, match="no data"):
            dataset.read(record, own)


def test_percentiles_do_not_count_what_a_mask_hides(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.uniform(0, 100, (1, 20, 20))
        mask = rng.random((20, 20)) > 0.1
        path = tmp_path / "raw" / "a" / f"{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, np.where(mask, image, 999.0), mask=mask)
    thumbnails = [_thumbnail(p, ("x",)) for p in sorted(path.parent.iterdir())]
    assert np.nanmax(thumbnails) <= 100


def test_what_lies_below_an_offset_is_black_not_white():
    """990 of a product with an offset of 1000 (TerraMind's tiles)."""
    image = np.full((13, 4, 4), 1500, np.uint16)
    image[10] = 1000
    image[0, 0, 0] = 990
    assert SCALE["optical"](image)[0, 0, 0] == 0


@pytest.mark.parametrize("case", ["turned", "transparent", "palette", "scaled", "masked"])
def test_an_image_that_declares_what_is_not_applied_is_one_line(tmp_path, case):
    path = tmp_path / ("a.jpg" if case == "turned" else "a.png")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    if case == "turned":
        exif = image.getexif()
        exif[0x0112] = 3
        image.save(path, exif=exif)
    elif case == "transparent":
        image.putalpha(Image.fromarray(np.eye(8, dtype=np.uint8) * 255))
        image.save(path)
    elif case == "palette":
        image.quantize(16).save(path)
    else:
        image.save(path)
    band = '<PAMRasterBand band="1"><Offset>-5</Offset><Scale>1</Scale></PAMRasterBand>'
    if case == "scaled":
        (tmp_path / "a.png.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
    if case == "masked":
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.eye(8, dtype=bool))
        assert (tmp_path / "a.png.msk").exists()
    mode = "RGB" if case != "palette" else None
    with pytest.raises(DecurError) as raised:
        read_image(path, mode)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_the_worldfile_beside_a_raster_places_its_features(tmp_path, monkeypatch):
    """EMPTY_DIR, which spares a look into the folder, had hidden it."""
    write(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8), crs=None, transform=None)
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n1005\n1995\n")
    with rasterio.Env(**GDAL), opened(tmp_path / "a.tif") as file:
        assert file.transform[:6] == (10, 0, 1000, 0, -10, 2000)


def test_the_published_data_sets_refuse_reflectance_that_wrapped_around(tmp_path):
    rng = np.random.default_rng(0)
    paths = {band: tmp_path / f"{band}.tif" for band in METRES}
    for band, metres in METRES.items():
        side = 24 * 10 // metres
        image = rng.integers(0, 3000, (1, side, side)).astype(np.uint16)
        write(paths[band], image - np.uint16(1000))
    with pytest.raises(DecurError, match="unsigned 16 bits"):
        read_optical(paths, 24)


def test_linear_power_is_no_backscatter_in_db():
    power = np.random.default_rng(0).uniform(0.001, 0.5, (2, 8, 8)).astype(np.float32)
    with pytest.raises(DecurError, match="use 10 log10 of linear power"):
        sar_db_to_uint8(power, (-12, -20), (5, 6))
    assert sar_db_to_uint8(10 * np.log10(power), (-12, -20), (5, 6)).std() > 10
