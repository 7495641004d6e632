"""A sample's place on the ground: of the patch, at its stored pixel size, through the index."""

import numpy as np
import pandas as pd
import pytest
import rasterio

from decur.config import DatasetSettings
from decur.datasets import geonrw, terramind
from decur.datasets.raw_files import georeference
from decur.shards import Georeference, PairedShards, ShardWriter
from decur.shards.part import Part, load_part, save_part
from tests.support.rasters import write_tiff
from tests.support.samples import MODALITIES, random_sample

PLACE = Georeference("EPSG:32632", (10.0, 0.0, 1 / 3, 0.0, -10.0, 5e6))


def test_a_patch_lies_in_its_tile_at_the_stored_pixel_size(tmp_path):
    path = tmp_path / "labels.tif"
    write_tiff(path, np.zeros((64, 64), np.uint8), left=500_000, pixel=10)
    found = georeference(path, 32, 7, 4)  # second row, third column, 16 pixels become 32
    assert found == Georeference("EPSG:32632", (5.0, 0.0, 500_320.0, 0.0, -5.0, 4_999_840.0))
    write_tiff(path, np.zeros((64, 64), np.uint8), crs=None)
    assert georeference(path, 32, 7, 4) is None


def test_the_place_goes_through_the_index_and_is_absent_where_unknown(tmp_path):
    with ShardWriter(tmp_path / "shards", MODALITIES) as writer:
        for i, place in enumerate([None, PLACE, None]):
            sample = random_sample(i)
            writer.add(type(sample)(**{**vars(sample), "georeference": place}))
    shards = PairedShards(tmp_path / "shards")
    assert [shards.georeference(row) for row in range(3)] == [None, PLACE, None]


def test_without_any_place_the_index_has_no_such_columns(shards_root):
    shards = PairedShards(shards_root)
    assert not {"crs", "transform"} & set(shards.index)
    assert shards.georeference(0) is None


def test_a_part_that_is_loaded_again_gives_the_same_index_bytes(tmp_path):
    rows = [{"id": "a", "crs": PLACE.crs, "transform": list(PLACE.transform)}, {"id": "b"}]
    part = Part(rows=rows)
    save_part(tmp_path, 0, "identity", part)
    loaded = load_part(tmp_path, 0, "identity")
    fresh, again = (pd.DataFrame(p.rows).to_parquet() for p in (part, loaded))
    assert fresh == again


@pytest.mark.parametrize(("module", "side"), [(geonrw, 250), (terramind, 56)])
def test_a_real_patch_lies_where_its_labels_do(real_frames, tmp_path, module, side):
    module.arrange_samples(real_frames, tmp_path)
    modalities = tuple(m.name for m in module.DATASET.modalities if m.name in ("rgb", "nir"))
    settings = DatasetSettings(pixels=side, modalities=modalities)
    record = next(r for r in module.scan(tmp_path, settings) if r.patch == 7)
    sample = module.read(record, settings)
    crs, transform = sample.georeference
    with rasterio.open(record.paths["seg" if module is geonrw else "LULC"]) as file:
        assert file.crs.to_string() == crs
        row, column = file.index(*(rasterio.Affine(*transform) @ (0.5, 0.5)))
        labels = file.read(1)[row : row + side, column : column + side]
    assert (row, column) == (side, 2 * side)
    np.testing.assert_array_equal(labels, sample.mask)
