"""Kept predictions are what the logits say, in files that any program opens."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from PIL import Image

from decur import datasets
from decur.artifacts.paths import Cell
from decur.artifacts.predictions import read_map
from decur.config import DatasetSettings
from decur.config.datasets import DATASETS
from decur.datasets import Dataset, geonrw
from decur.errors import DecurError
from decur.models import build_backbone
from decur.models.heads import FCN
from decur.pretrain.loop import train_run
from decur.shards import Georeference, PairedShards, ShardWriter
from decur.shards.select import evenly_spaced
from decur.transfer.evaluate import evaluate
from decur.transfer.predictions import Predictions
from decur.transfer.run import transfer
from tests.support.pretraining import settings as pretrain_settings
from tests.support.samples import MODALITIES, random_sample
from tests.support.transfer import as_dataset, labelled, recipe, transfer_settings

COLOURS = ((10, 20, 30), (250, 0, 0), (0, 250, 0))
PAIRS = Dataset(
    "pairs", "Pairs", (), "none", "none", classes=("a", "b", "c"), colours=COLOURS, ignore=0
)
PLACE = Georeference("EPSG:32632", (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))


def gather(shards, logits, wanted, size=10):
    """Predictions of the test rows, whose logits come in batches."""
    keep = Predictions(shards, PAIRS, wanted)
    rows = shards.rows("test", labelled=True)
    for at in range(0, len(rows), size):
        keep.add(rows[at : at + size], logits[at : at + size])
    return keep


def random_logits(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def placed(tmp_path):
    """Shards of test samples that lie somewhere, with ids that no file name may hold."""
    root = tmp_path / "placed"
    with ShardWriter(root, MODALITIES) as writer:
        for i in range(5):
            sample = random_sample(i, "test")
            writer.add(dataclasses.replace(sample, id=f"../{i} é", georeference=PLACE))
    return PairedShards(root)


def test_rows_are_spaced_evenly_and_never_twice():
    rows = np.arange(100, 112)
    assert evenly_spaced(rows, 3).tolist() == [100, 105, 111]
    assert evenly_spaced(rows, 1).tolist() == [100]
    assert evenly_spaced(rows, 0).tolist() == []
    for count in (12, 13, 1000):
        np.testing.assert_array_equal(evenly_spaced(rows, count), rows)
    np.testing.assert_array_equal(evenly_spaced(evenly_spaced(rows, 4), 4), evenly_spaced(rows, 4))


def test_probabilities_are_sigmoids_by_id_and_class(shards_root, tmp_path):
    shards, logits = PairedShards(shards_root), random_logits(24, 3)
    gather(shards, logits, "all").write(tmp_path / "predictions")
    table = pd.read_parquet(tmp_path / "predictions" / "probabilities.parquet")
    assert table["id"].tolist() == [f"{i:04d}" for i in range(48, 72)]
    assert (table.dtypes[["a", "b", "c"]] == np.float32).all()
    said = table[["a", "b", "c"]].to_numpy()
    np.testing.assert_allclose(said, logits.sigmoid().numpy(), rtol=1e-6)


def test_class_maps_are_argmaxes_in_the_datasets_colours(shards_root, tmp_path):
    shards, logits = PairedShards(shards_root), random_logits(24, 3, 20, 20)
    gather(shards, logits, 4).write(tmp_path / "predictions")
    names = sorted(path.name for path in (tmp_path / "predictions").iterdir())
    assert names == ["0048.png", "0055.png", "0063.png", "0071.png", "legend.csv"]
    with Image.open(tmp_path / "predictions" / "0055.png") as image:
        classes, colours = np.array(image), np.array(image.convert("RGB"))
    np.testing.assert_array_equal(classes, logits[7].argmax(dim=0).numpy())
    np.testing.assert_array_equal(colours, np.array(COLOURS)[classes])
    np.testing.assert_array_equal(
        read_map(tmp_path / "predictions", "0055", on_ground=False), classes
    )
    legend = pd.read_csv(tmp_path / "predictions" / "legend.csv")
    assert legend.columns.tolist() == ["value", "class", "red", "green", "blue"]
    assert legend.iloc[1].tolist() == [1, "b", 250, 0, 0]


def test_maps_of_samples_on_the_ground_are_geotiffs_whatever_their_ids(placed, tmp_path):
    logits = random_logits(5, 3, 20, 20)
    gather(placed, logits, "all").write(tmp_path / "out" / "predictions")
    assert len(list((tmp_path / "out" / "predictions").iterdir())) == 6
    for i, name in enumerate(placed.index["id"]):
        read = read_map(tmp_path / "out" / "predictions", name, on_ground=True)
        np.testing.assert_array_equal(read, logits[i].argmax(dim=0).numpy())
    with rasterio.open(next((tmp_path / "out" / "predictions").glob("*.tif"))) as file:
        assert (file.crs.to_string(), tuple(file.transform)[:6]) == PLACE
        assert (file.dtypes, file.nodata, file.compression.name) == (("uint8",), 0, "lzw")
        assert file.colormap(1)[1] == (250, 0, 0, 255)


def test_an_earlier_runs_files_go_and_a_later_evaluation_replaces_an_earlier(placed, tmp_path):
    folder = tmp_path / "predictions"
    gather(placed, random_logits(5, 3, 20, 20), "all").write(folder)
    assert len(list(folder.iterdir())) > 3
    keep = gather(placed, random_logits(5, 3, 20, 20), 2)
    keep.add(placed.rows("test"), torch.eye(3)[2].view(1, 3, 1, 1).expand(5, 3, 20, 20))
    keep.write(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(first) == 3
    assert (read_map(folder, placed.index["id"][4], on_ground=True) == 2).all()
    keep.write(folder)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    Predictions(placed, PAIRS, "none").write(folder)
    assert not [path for path in tmp_path.iterdir() if "predictions" in path.name]


@pytest.mark.parametrize("wanted", ["none", 2])
def test_a_folder_with_somebody_elses_file_is_refused(placed, tmp_path, wanted):
    folder = tmp_path / "predictions"
    gather(placed, random_logits(5, 3, 20, 20), 2).write(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DecurError, match="predictions"):
        gather(placed, random_logits(5, 3, 20, 20), wanted).write(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_failed_write_leaves_what_was_there(placed, tmp_path, monkeypatch):
    keep = gather(placed, random_logits(5, 3, 20, 20), 2)
    keep.write(tmp_path / "predictions")
    before = sorted((tmp_path / "predictions").iterdir())

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("decur.transfer.predictions._write_map", full)
    with pytest.raises(DecurError, match="No space left"):
        keep.write(tmp_path / "predictions")
    assert sorted((tmp_path / "predictions").iterdir()) == before
    assert not list(tmp_path.glob(".predictions*"))


def test_a_damaged_map_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DecurError, match=r"a\.png: "):
        read_map(tmp_path, "a", on_ground=False)
    assert read_map(tmp_path, "b", on_ground=False) is None


def test_evaluation_hands_every_batch_over_with_its_rows(shards_root, tmp_path):
    torch.manual_seed(0)
    data = labelled(shards_root, recipe("segmentation"))
    model = FCN([build_backbone("tiny", c) for c in (2, 3)], 3)
    rows = data.shards.rows("test")
    keep = Predictions(data.shards, PAIRS, 3)
    evaluate(model, data, rows, keep=keep)
    keep.write(tmp_path / "predictions")
    for row in evenly_spaced(rows, 3):
        logits = model(data.inputs(np.array([row]), None)[0])
        read = read_map(tmp_path / "predictions", data.shards.index["id"][row], on_ground=False)
        np.testing.assert_array_equal(read, logits[0].argmax(dim=0).numpy())


@pytest.mark.parametrize(
    ("task", "kept"), [("classification", "probabilities.parquet"), ("segmentation", "0071.png")]
)
def test_a_transfer_keeps_what_its_recipe_asks_for(shards_root, tmp_path, monkeypatch, task, kept):
    as_dataset(monkeypatch, "abc")
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", "linear")
    folder = tmp_path / "out" / str(cell) / "predictions"
    for wanted, there in ((2, True), ("none", False)):
        settings = transfer_settings(recipe(task, predictions=wanted))
        transfer(settings, [cell], weights, shards_root.parent, tmp_path / "out")
        assert (folder / kept).is_file() == there
        assert folder.with_name("metrics.json").is_file()


@pytest.mark.parametrize("name", ["metrics.json", "labels.txt", "predictions/map.png"])
def test_a_transfer_refuses_files_of_somebody_else(shards_root, tmp_path, monkeypatch, name):
    as_dataset(monkeypatch, "abc")
    weights = train_run(pretrain_settings(method="random"), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", "linear")
    path = tmp_path / "out" / str(cell) / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    chosen = transfer_settings(recipe("segmentation", predictions=2))
    with pytest.raises(DecurError, match="exists and was not written by decur"):
        transfer(chosen, [cell], weights, shards_root.parent, tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [path]


def test_every_datasets_classes_have_a_colour_if_they_are_of_pixels():
    for name in DATASETS:
        facts = datasets.load(name).DATASET
        assert len(facts.colours) in (0, len(facts.classes))
        assert facts.palette().shape == (256, 3)


def test_a_real_patchs_prediction_lies_on_its_labels(real_frames, tmp_path):
    geonrw.arrange_samples(real_frames, tmp_path / "raw")
    settings = DatasetSettings(pixels=125, modalities=("rgb", "nir"))
    records = geonrw.scan(tmp_path / "raw", settings)
    record = next(r for r in records if r.id == "herne_373_5711_16")
    modalities = [m for m in geonrw.DATASET.modalities if m.name != "dem"]
    with ShardWriter(tmp_path / "shards", modalities) as writer:
        writer.add(geonrw.read(record, settings))
    shards = PairedShards(tmp_path / "shards")
    keep = Predictions(shards, geonrw.DATASET, "all")
    keep.add(np.array([0]), random_logits(1, 11, 125, 125))
    keep.write(tmp_path / "predictions")
    with (
        rasterio.open(tmp_path / "predictions" / "herne_373_5711_16.tif") as ours,
        rasterio.open(record.paths["seg"]) as tile,
    ):
        assert ours.crs == tile.crs
        assert ours.bounds.right == tile.bounds.right
        assert ours.bounds.bottom == tile.bounds.bottom
        assert ours.bounds.left == tile.bounds.left + 750
        assert ours.res == (2, 2)
