"""Galleries show inputs, labels and predictions, whatever of them there is."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from decur import datasets
from decur.artifacts.paths import Paths, Run
from decur.config import Config
from decur.config.experiments import Experiment, chosen_experiments, transfer_runs
from decur.errors import DecurError
from decur.shards import Georeference, Modality, PairedShards, Sample, ShardWriter
from decur.tables.gallery import accuracy, collate, coloured, draw, picture
from decur.tables.run import outputs, write_experiment
from decur.transfer.predictions import Predictions
from tests.support.tables import BARLOW, DECUR, GEONRW, RANDOM, config, experiment, put

RECIPE = {
    "task": "segmentation",
    "predictions": 6,
    "linear": {"optimizer": "sgd", "lr": 0.1, "epochs": 1},
    "fine_tune": {"optimizer": "sgd", "lr": 0.1, "epochs": 1},
}
PANEL = GEONRW | {"labels": [100], "protocols": ["fine-tune"]}
SIDE = 24


def settings(**changes: object) -> Config:
    return config(transfer={"geonrw": RECIPE | changes})


def gallery(**changes: object) -> Experiment:
    tree = {"kind": "gallery", "rows": [RANDOM, BARLOW, DECUR], "panels": [PANEL], "seeds": 1}
    return experiment(**(tree | changes))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path), "small")


def put_shards(paths: Paths, side: int = SIDE) -> PairedShards:
    """Ten test patches, each second on the ground; their elevation is their labels."""
    modalities = [
        Modality("rgb", ("red", "green", "blue"), ""),
        Modality("dem", ("elevation",), ""),
    ]
    rng = np.random.default_rng(0)
    with ShardWriter(Path(paths.shards("geonrw")), modalities, {"ignore": 0}) as writer:
        for i in range(10):
            mask = rng.integers(0, 11, (side, side), dtype=np.uint8)
            rgb = rng.integers(0, 256, (1, 3, side, side), dtype=np.uint8)
            arrays = {"rgb": rgb, "dem": 20 * mask[None, None]}
            place = (
                Georeference("EPSG:25832", (1.0, 0.0, 9.0 * i, 0.0, -1.0, 8.0)) if i % 2 else None
            )
            writer.add(Sample(f"p{i}", "test", arrays, mask=mask, georeference=place))
    return PairedShards(paths.shards("geonrw"))


def put_predictions(paths: Paths, wanted: Experiment, *methods: str) -> None:
    """Predictions that say the labels, but for the first line of each map: class 1."""
    shards = PairedShards(paths.shards("geonrw"))
    rows = shards.rows("test")
    said = torch.from_numpy(shards.masks(rows)).long()
    said[:, 0] = 1
    logits = torch.nn.functional.one_hot(said, 11).permute(0, 3, 1, 2).float()
    for run, cells in transfer_runs([wanted], settings()).items():
        for cell in cells if run.method in methods else ():
            metrics = put(paths, str(run), str(cell), miou=50.0)
            keep = Predictions(shards, datasets.load("geonrw").DATASET, 6)
            keep.add(rows, logits)
            keep.write(metrics.with_name("predictions"))


def shape(content: bytes) -> tuple[int, ...]:
    return np.asarray(Image.open(io.BytesIO(content))).shape


def test_a_gallery_shows_what_was_predicted_beside_inputs_and_labels(paths):
    shards = put_shards(paths)
    put_predictions(paths, gallery(), "random", "barlow-twins", "decur")
    (block,) = collate(gallery(), settings(), paths)
    assert block.title == "RGB+DEM, 100 % labels, fine-tune"
    assert block.modalities == ("rgb", "dem")
    assert block.methods == ("Rand. Init. (linear)", "Barlow Twins", "DeCUR")
    assert [line.sample for line in block.lines] == ["p0", "p1", "p5", "p9"]
    for line in block.lines:
        (row,) = np.flatnonzero(shards.index["id"] == line.sample)
        np.testing.assert_array_equal(line.truth, shards.masks(np.array([row]))[0])
        assert [x.shape for x in line.inputs] == [(SIDE, SIDE, 3)] * 2
        for said in line.predictions:
            np.testing.assert_array_equal(said[1:], line.truth[1:])
            assert (said[0] == 1).all()


def test_its_table_holds_the_accuracy_of_every_map(paths):
    put_shards(paths)
    put_predictions(paths, gallery(), "decur")
    write_experiment("gallery", gallery(), settings(), paths)
    frame = pd.read_csv(paths.table("gallery", "csv"))
    assert len(frame) == 4 * 3
    (block,) = collate(gallery(), settings(), paths)
    ours = frame[frame["row"] == "DeCUR"]["accuracy"].tolist()
    expected = [accuracy(line.truth, line.predictions[2], 0) for line in block.lines]
    assert ours == pytest.approx(expected, abs=1e-4)
    assert all(90 < value < 100 for value in ours)
    assert frame[frame["row"] != "DeCUR"]["accuracy"].isna().all()
    text = Path(paths.table("gallery", "md")).read_text()
    assert f"| p0 | – | – | {ours[0]:.1f} |" in text
    assert "NOT comparable" in text


def test_accuracy_counts_labelled_pixels_alone():
    truth = np.array([[0, 1, 2, 2]], np.uint8)
    assert accuracy(truth, np.array([[1, 1, 2, 1]], np.uint8), 0) == pytest.approx(200 / 3)
    assert accuracy(truth, np.array([[1, 1, 2, 1]], np.uint8), None) == 50
    assert np.isnan(accuracy(truth, None, 0))


@pytest.mark.slow
def test_it_is_drawn_at_any_time_in_identical_bytes(paths):
    """Without shards, without any result, with some and with all."""
    made = outputs("gallery", gallery(), paths)
    seen = []
    for methods in (None, (), ("decur",), ("random", "barlow-twins", "decur")):
        if methods is not None:
            put_shards(paths)
            put_predictions(paths, gallery(), *methods)
        write_experiment("gallery", gallery(), settings(), paths)
        first = {path: Path(path).read_bytes() for path in made.values()}
        write_experiment("gallery", gallery(), settings(), paths)
        assert first == {path: Path(path).read_bytes() for path in made.values()}
        seen.append(Path(made["figure"]).read_bytes())
    assert len(set(seen)) == 4
    assert shape(seen[1])[:2] == shape(seen[3])[:2]
    assert shape(seen[0])[0] < shape(seen[1])[0]


@pytest.mark.slow
def test_several_panels_stand_below_one_another_and_none_is_no_error(paths):
    put_shards(paths)
    panels = [PANEL, PANEL | {"label": "RGB", "modalities": "rgb"}]
    drawn = (draw(collate(gallery(panels=panels[:n]), settings(), paths)) for n in (1, 2))
    one, two = (images["figure"] for images in drawn)
    assert shape(two)[0] == pytest.approx(2 * shape(one)[0], abs=2)
    nothing = gallery(panels=[PANEL | {"scenario": "rgb-depth"}])
    assert collate(nothing, settings(), paths) == []
    write_experiment("nothing", nothing, settings(), paths)
    assert "includes none of" in Path(paths.table("nothing", "md")).read_text()


def test_predictions_of_other_shards_or_of_no_finished_transfer_are_no_results(paths):
    put_shards(paths)
    put_predictions(paths, gallery(), "decur", "barlow-twins")
    (cell,) = transfer_runs([gallery()], settings())[Run("rgb-dem", "decur")]
    Path(paths.metrics(str(Run("rgb-dem", "decur")), str(cell))).unlink()
    (block,) = collate(gallery(), settings(), paths)
    assert all(line.predictions[1] is not None for line in block.lines)
    assert all(line.predictions[2] is None for line in block.lines)
    put_shards(paths, 2 * SIDE)
    (block,) = collate(gallery(), settings(), paths)
    assert all(line.predictions == (None,) * 3 for line in block.lines)


@pytest.mark.parametrize(
    ("recipe", "panel", "message"),
    [
        ({"predictions": "none"}, {}, "set transfer.geonrw.predictions"),
        ({}, {"protocols": ["probe"]}, "only segmentations"),
        ({}, {"protocols": ["knn"]}, "only segmentations"),
        ({}, {"missing": "dem/mean"}, "all modalities"),
    ],
)
def test_a_gallery_that_could_show_nothing_is_refused_before_any_job(recipe, panel, message):
    experiments = {"gallery": gallery(rows=[DECUR], panels=[PANEL | panel])}
    asked = settings(**recipe).model_copy(update={"experiments": ("gallery",)})
    with pytest.raises(DecurError, match=message) as caught:
        chosen_experiments(experiments, asked)
    assert str(caught.value).startswith("experiments: gallery 'gallery', RGB+DEM: ")


def test_images_are_shown_in_natural_colours_where_they_have_them():
    bands = ("B1", "B2", "B3", "B4", "B8")
    image = np.stack([np.full((2, 2), 10 * i, np.uint8) for i in range(5)])
    image[:, 0, 0] = 0
    natural = picture(image, bands)
    assert natural.shape == (2, 2, 3) and natural.dtype == np.uint8
    assert natural[1, 1, 0] > natural[1, 1, 1] > natural[1, 1, 2] > 0
    grey = picture(image[1:3], ("VV", "VH"))
    assert (grey[1, 1] == grey[1, 1, 0]).all() and grey[1, 1, 0] == 255
    assert (picture(np.full((3, 2, 2), 7, np.uint8), ("r", "g", "b")) == 0).all()


def test_maps_have_the_datasets_colours_and_stripes_where_nothing_counts():
    dataset = datasets.load("geonrw").DATASET
    classes = np.zeros((SIDE, SIDE), np.uint8)
    classes[:, SIDE // 2 :] = 2
    shown = coloured(classes, dataset)
    assert (shown[:, SIDE // 2 :] == dataset.colours[2]).all()
    assert set(np.unique(shown[:, : SIDE // 2])) == {160, 255}
