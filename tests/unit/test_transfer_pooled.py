"""Protocols on one vector per image: nearest neighbours, and logistic regression."""

import json

import numpy as np
import pytest
import torch

from decur.artifacts.paths import Cell
from decur.cluster.signals import StoppedError
from decur.errors import DecurError
from decur.metrics.logistic import Basis, fit_logistic
from decur.metrics.neighbours import neighbour_means
from decur.metrics.scores import average_precision
from decur.models.heads import LateFusion
from decur.pretrain.loop import train_run
from decur.shards import PairedShards
from decur.transfer.cell import CellInputs
from decur.transfer.features import FrozenFeatures
from decur.transfer.pooled import image_labels, pooled_features
from decur.transfer.protocols import logistic
from decur.transfer.run import transfer
from decur.transfer.task import build_task, hold_out
from decur.weights import read_weights
from tests.support.pretraining import settings as pretrain_settings
from tests.support.stopping import at_call, result, warn
from tests.support.transfer import recipe, transfer_settings

PROTOCOLS = ["knn", "knn-5", "logistic"]
FIT = "decur.transfer.protocols.logistic.fit_logistic"


@pytest.fixture
def weights(shards_root, tmp_path, pairs):
    """A run's weights; the shards are a dataset of three classes."""
    return train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")


@pytest.fixture
def product(shards_root, tmp_path, weights):
    """Evaluates a cell; gives its metrics.json, and keeps its folder."""

    def run(protocol, percent=50, task="classification", name="out", **changes):
        cell = Cell("pairs", "sar+optical", protocol, percent)
        run.folder = tmp_path / name / str(cell)
        settings = transfer_settings(recipe(task, **changes))
        transfer(settings, [cell], weights, shards_root.parent, tmp_path / name)
        return json.loads((run.folder / "metrics.json").read_text())

    return run


@pytest.fixture
def task(shards_root, weights):
    """The samples of a protocol's cell with half of the labels."""

    def build(protocol):
        tensors, _ = read_weights(weights)
        cell, shards = Cell("pairs", "sar+optical", protocol, 50), PairedShards(shards_root)
        given = (transfer_settings(recipe()), cell, tensors, shards, torch.device("cpu"))
        return build_task(CellInputs(*given, FrozenFeatures()))

    return build


@pytest.fixture
def fewer(monkeypatch):
    """A sweep of three strengths."""
    monkeypatch.setattr(logistic, "STRENGTHS", (1e-3, 1.0, 1e3))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_metrics_are_the_same_whether_features_are_kept_in_memory_or_not(
    product, fewer, protocol, task
):
    found = [product(protocol, task=task, augment=augment) for augment in (True, False)]
    names = {"classification": {"map_micro", "map_macro"}, "segmentation": {"dominant_class"}}
    assert found[0]["metrics"].keys() == names[task]
    assert found[0]["metrics"] == pytest.approx(found[1]["metrics"], abs=0.2)
    assert found[0]["counts"]["train"] == 24
    assert len((product.folder / "labels.txt").read_text().splitlines()) == 24


def test_knn_5_is_the_mean_label_of_five_by_the_features_as_they_are(product, task):
    built = task("knn-5")
    train, test = (
        pooled_features(built, rows, unit=False) for rows in (built.rows, built.test_rows)
    )
    assert not torch.allclose(train.norm(dim=1), torch.tensor(2**0.5))
    votes = neighbour_means(train, image_labels(built, built.rows), test, neighbours=5)
    expected = average_precision(votes, image_labels(built, built.test_rows))
    assert product("knn-5")["metrics"] == pytest.approx(expected)


def test_logistic_chooses_c_on_a_tenth_of_the_labels_and_fits_all_of_them(product, task, fewer):
    found, built = product("logistic"), task("logistic")
    assert found["counts"] == {"train": 24, "held_out": 2}
    assert [tried["c"] for tried in found["sweep"]] == [1e-3, 1.0, 1e3]
    rest, held = hold_out(built)
    assert {*rest, *held} == {*built.rows} and len(held) == 2
    features = {"rest": rest, "held": held, "all": built.rows, "test": built.test_rows}
    x = {name: pooled_features(built, rows, unit=False) for name, rows in features.items()}
    y = {name: image_labels(built, rows) for name, rows in features.items()}

    def score(c, trained, scored):
        fit = fit_logistic(Basis.of(x[trained]), y[trained], c, classes=3)
        return average_precision(fit.probabilities(x[scored]), y[scored])

    scores = [score(c, "rest", "held")["map_micro"] for c in (1e-3, 1.0, 1e3)]
    assert [tried["map_micro"] for tried in found["sweep"]] == pytest.approx(scores, abs=1e-3)
    assert found["c"] == (1e-3, 1.0, 1e3)[int(np.argmax(scores))]
    assert found["metrics"] == pytest.approx(score(found["c"], "all", "test"), abs=0.5)


def test_the_grid_is_that_of_torchgeo_bench():
    grid = logistic.STRENGTHS
    assert len(grid) == 40 and (grid[0], grid[-1]) == (1e-6, 1e4)
    assert np.diff(np.log10(grid)) == pytest.approx(10 / 39)


def test_evaluation_labels_do_not_choose_c(product, fewer, monkeypatch):
    found, read = product("logistic"), PairedShards.labels

    def other_evaluation_labels(shards, rows):
        test = shards.index["split"].to_numpy()[rows] == "test"
        return np.where(test[:, None], 1 - read(shards, rows), read(shards, rows))

    monkeypatch.setattr(PairedShards, "labels", other_evaluation_labels)
    other = product("logistic")
    assert other["metrics"] != found["metrics"]
    assert (other["c"], other["sweep"]) == (found["c"], found["sweep"])


def of_train(monkeypatch, kind, change, rows_of):
    """Change the labels of some training rows (positions among the split)."""
    read = getattr(PairedShards, kind)

    def changed(shards, rows):
        found = read(shards, rows).copy()
        found[np.isin(rows, rows_of)] = change
        return found

    monkeypatch.setattr(PairedShards, kind, changed)


def test_held_out_samples_without_any_label_leave_the_strongest_penalty(
    product, task, fewer, monkeypatch
):
    of_train(monkeypatch, "labels", 0, hold_out(task("logistic"))[1])
    found = product("logistic")
    assert [tried["map_micro"] for tried in found["sweep"]] == [0, 0, 0]
    assert found["c"] == 1e-3 and np.isfinite(found["metrics"]["map_macro"])


def test_a_class_that_no_label_shows_is_named_and_the_others_are_measured(
    product, task, fewer, monkeypatch
):
    of_train(monkeypatch, "masks", 1, task("logistic").rows)
    found = product("logistic", task="segmentation")
    assert found["untrained_classes"] == ["a", "c"]
    truth = image_labels_of_masks(task("logistic"))
    assert found["metrics"]["dominant_class"] == pytest.approx(100 * (truth == 1).mean())


def image_labels_of_masks(built):
    masks = built.data.shards.masks(built.test_rows).reshape(len(built.test_rows), -1)
    return np.array([np.bincount(mask).argmax() for mask in masks])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_collapsed_backbones_predict_the_share_of_each_class(product, fewer, monkeypatch, protocol):
    def same(model, modality, x):
        return [torch.full((len(x), 8), 3.0)]

    monkeypatch.setattr(LateFusion, "encode", same)
    found = product(protocol)["metrics"]
    assert 0 < found["map_macro"] < 100
    # All evaluation samples have the same scores: the precision of a class is its share.
    shards = PairedShards(product.folder.parents[4] / "shards" / "pairs")
    share = shards.labels(shards.rows("test")).mean(axis=0)
    assert found["map_macro"] == pytest.approx(100 * share.mean())


def test_too_few_labels_to_hold_some_out_are_one_line(product):
    with pytest.raises(DecurError, match=r"shards/pairs: 9 labelled samples are too few") as caught:
        product("logistic", percent=20)
    assert "\n" not in str(caught.value) and not product.folder.exists()
    assert "labels-20" in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_that_are_not_finite_are_one_line(product, monkeypatch, protocol):
    monkeypatch.setattr(
        LateFusion, "encode", lambda model, modality, x: [torch.full((len(x), 8), torch.nan)]
    )
    with pytest.raises(DecurError, match=r"shards/pairs: .*features .*not finite") as caught:
        product(protocol)
    assert "\n" not in str(caught.value)


def test_a_strength_without_finite_predictions_is_passed_over(product, fewer, monkeypatch):
    fit = logistic.fit_logistic

    def diverging(basis, labels, c, **options):
        found = fit(basis, labels, c, **options)
        if c in bad:
            found.bias.fill_(torch.nan)
        return found

    bad = {1e-3}
    monkeypatch.setattr(logistic, "fit_logistic", diverging)
    found = product("logistic")
    assert found["sweep"][0] == {"c": 1e-3, "map_micro": None} and found["c"] != 1e-3
    bad |= {1.0, 1e3}
    with pytest.raises(DecurError, match="no regularisation gives finite predictions"):
        product("logistic", name="other")


def test_a_stopped_sweep_goes_on_and_fits_no_strength_twice(product, fewer, monkeypatch):
    product("logistic")
    whole = result(product.folder)
    with monkeypatch.context() as patch:
        calls = at_call(patch, [FIT], 2, warn)
        with pytest.raises(StoppedError, match="and saved"):
            product("logistic", name="stopped")
        product("logistic", name="stopped")
    assert len(calls) == 3 + 1
    assert result(product.folder) == whole
