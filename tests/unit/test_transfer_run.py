import json
from functools import partialmethod

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from decur.artifacts.paths import Cell
from decur.config.datasets import DATASETS, KnownDataset
from decur.errors import DecurError
from decur.models.heads import LateFusion
from decur.pretrain.loop import train_run
from decur.shards import PairedShards
from decur.training.methods import build_model
from decur.transfer.cell import CellInputs
from decur.transfer.features import FrozenFeatures
from decur.transfer.run import transfer
from decur.transfer.task import build_task
from tests.support.pretraining import settings as pretrain_settings
from tests.support.transfer import as_dataset, recipe, transfer_settings


@pytest.mark.parametrize("init", ["normal", "official"])
@pytest.mark.parametrize("protocol", ["linear", "fine-tune"])
def test_the_classifier_starts_as_the_settings_say(shards_root, pairs, init, protocol):
    """The first released code: small and without bias for frozen backbones alone."""
    settings = transfer_settings(recipe(classifier_init=init))
    base = settings.pretrain
    shards = PairedShards(shards_root)
    tensors = build_model(base, shards).state_dict()
    cell = Cell("pairs", "sar+optical", protocol, 100)
    device = torch.device("cpu")
    task = build_task(CellInputs(settings, cell, tensors, shards, device, FrozenFeatures()))
    weight, bias = task.model.classifier.weight, task.model.classifier.bias
    if init == "official" and protocol == "fine-tune":
        bound = weight.shape[1] ** -0.5  # uniform, torch's default
        assert 0.9 * bound < weight.abs().max() <= bound
        assert bias.abs().max() > 0
    else:
        assert weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert torch.equal(bias, torch.zeros_like(bias))


def test_frozen_images_are_encoded_once_for_all_heads_rates_and_fractions(
    shards_root, tmp_path, pairs, monkeypatch
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    seen = []
    encode = LateFusion.encode

    def counted(model, modality, x):
        seen.append(len(x))
        return encode(model, modality, x)

    monkeypatch.setattr(LateFusion, "encode", counted)
    head = {"optimizer": "sgd", "lr": 0.1, "lr_sweep": [0.1, 0.5], "epochs": 4}
    settings = transfer_settings(recipe(linear=head, augment=False))
    cells = [
        Cell("pairs", "sar+optical", "linear", 100),
        Cell("pairs", "sar+optical", "linear", 50),
        Cell("pairs", "sar", "linear", 25),
        Cell("pairs", "sar+optical", "knn", 100),
    ]
    transfer(settings, cells, weights, shards_root.parent, tmp_path)
    constants = 2 * 2 * 2  # two substitutes of two modalities, in two multimodal cells
    assert sum(seen) - constants == 2 * (48 + 24)
    sweep = json.loads((tmp_path / str(cells[0]) / "metrics.json").read_text())["sweep"]
    assert [tried["lr"] for tried in sweep] == [0.1, 0.5]


@pytest.mark.parametrize("protocol", ["linear", "fine-tune"])
def test_a_split_that_is_not_reported_is_measured_like_the_one_that_is(
    shards_root, tmp_path, pairs, monkeypatch, protocol
):
    """Here they are the same, so their metrics are."""
    known = KnownDataset("none", {}, ("train", "val", "test"), "val")
    monkeypatch.setitem(DATASETS, "pairs", known)
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", protocol, 100)
    transfer(transfer_settings(recipe()), [cell], weights, shards_root.parent, tmp_path)
    found = json.loads((tmp_path / str(cell) / "metrics.json").read_text())
    assert found["splits"] == {"test": found["metrics"]}


def test_a_sweep_takes_the_rate_that_does_best_on_held_out_labels(shards_root, tmp_path, pairs):
    """A rate of next to nothing cannot learn; evaluation data must not choose."""
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", "fine-tune")

    def product(**changes):
        head = {"optimizer": "adamw", "lr": 0.01, "epochs": 8, **changes}
        settings = transfer_settings(recipe(fine_tune=head))
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
        return json.loads((tmp_path / str(cell) / "metrics.json").read_text())

    swept, plain = product(lr=0.5, lr_sweep=[1e-9, 0.01]), product()
    assert swept["lr"] == plain["lr"] == 0.01
    assert swept["metrics"] == plain["metrics"]
    assert swept["sweep"][1]["map_micro"] > swept["sweep"][0]["map_micro"]
    assert "sweep" not in plain


def test_a_sweep_needs_ten_labels(shards_root, tmp_path, pairs):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    head = {"optimizer": "adamw", "lr": 0.01, "lr_sweep": [0.1], "epochs": 1}
    settings = transfer_settings(recipe(linear=head))
    cell = Cell("pairs", "sar", "linear", 10)
    with pytest.raises(DecurError, match="lr_sweep: 4 "):
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)


def test_windows_read_a_frozen_fcn_as_they_read_any(shards_root, tmp_path, pairs):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", "linear")
    whole, windows = (
        transfer_settings(recipe("segmentation", augment=False, sliding=sliding))
        for sliding in (None, {"window": [20, 20]})  # the images' size
    )
    found = []
    for settings in (whole, windows):
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
        found.append(json.loads((tmp_path / str(cell) / "metrics.json").read_text()))
    assert found[0]["metrics"] == pytest.approx(found[1]["metrics"], abs=0.2)


def test_one_job_writes_the_metrics_of_every_cell(shards_root, tmp_path, pairs):
    base = pretrain_settings(epochs=1)
    weights = train_run(base, shards_root, tmp_path / "run")
    settings = transfer_settings(recipe())
    cells = [
        Cell("pairs", "sar+optical", "linear", 50),
        Cell("pairs", "sar", "fine-tune", 100),
        Cell("pairs", "optical", "probe"),
        Cell("pairs", "sar", "probe-common"),
        Cell("pairs", "sar", "probe-unique"),
    ]
    out = tmp_path / "transfer"
    transfer(settings, cells, weights, shards_root.parent, out)
    products = [json.loads((out / str(cell) / "metrics.json").read_text()) for cell in cells]
    assert products[0]["counts"] == {"train": 24}
    labels = (out / str(cells[0]) / "labels.txt").read_text().splitlines()
    assert len(set(labels)) == 24
    assert set(labels) < {f"{i:04d}" for i in range(48)}
    assert not (out / str(cells[2]) / "labels.txt").exists()
    assert products[0]["metrics"].keys() == {"map_micro", "map_macro", "map_micro_per_batch"}
    assert products[0]["per_class"].keys() == {"a", "b", "c"}
    assert products[2]["metrics"].keys() == {"common", "unique1", "unique2"}
    assert products[3]["counts"] == products[4]["counts"] == {"dimensions": 8}
    assert products[1]["provenance"]["pretrained"]["settings"]["seed"] == 1
    again = tmp_path / "again"
    transfer(settings, cells[:1], weights, shards_root.parent, again)
    repeated = json.loads((again / str(cells[0]) / "metrics.json").read_text())
    assert repeated.pop("job").keys() == products[0].pop("job").keys()
    assert repeated == products[0]
    with pytest.raises(DecurError, match="no modality 'lidar'"):
        transfer(settings, [Cell("pairs", "lidar", "linear")], weights, shards_root.parent, out)
    with pytest.raises(DecurError, match="no protocol 'lineer'; did you mean 'linear'"):
        transfer(settings, [Cell("pairs", "sar", "lineer")], weights, shards_root.parent, out)
    without = settings.model_copy(update={"recipes": {}})
    with pytest.raises(DecurError, match=r"'pairs/sar/linear/labels-100'.*recipe"):
        transfer(without, [Cell("pairs", "sar", "linear")], weights, shards_root.parent, out)


@pytest.mark.parametrize("wrong", ["train", "test"])
def test_no_head_is_trained_on_or_before_a_wrong_label(shards_root, tmp_path, monkeypatch, wrong):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    as_dataset(monkeypatch, "abc")
    masks = PairedShards.masks

    def with_a_wrong_label(shards, rows):
        found = masks(shards, rows).copy()
        found[shards.index["split"].iloc[rows] == wrong] = 9
        return found

    monkeypatch.setattr(PairedShards, "masks", with_a_wrong_label)
    monkeypatch.setattr("decur.transfer.fit.train", lambda *args, **kwargs: pytest.fail("trained"))
    settings, cell = transfer_settings(recipe("segmentation")), Cell("pairs", "sar", "linear")
    with pytest.raises(DecurError, match="has the label 9") as caught:
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / str(cell)).exists()


def test_classes_that_no_training_label_shows_are_named_and_measured(
    shards_root, tmp_path, monkeypatch
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")

    def product(task, labels):
        settings, cell = transfer_settings(recipe(task)), Cell("pairs", "sar", "linear", labels)
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
        return json.loads((tmp_path / str(cell) / "metrics.json").read_text())

    as_dataset(monkeypatch, "abc")
    few = product("classification", 3)
    assert few["evaluated"] == {"samples": 24, "left_out": 0, "classes": 3, "absent_classes": []}
    assert few["counts"] == {"train": 1}
    assert len(few["untrained_classes"]) == 2
    assert all(few["per_class"][name] > 0 for name in few["untrained_classes"])
    assert product("classification", 100)["untrained_classes"] == []
    as_dataset(monkeypatch, "abcd", ignore=0)
    masks = product("segmentation", 100)
    assert masks["untrained_classes"] == masks["evaluated"]["absent_classes"] == ["d"]
    assert masks["evaluated"]["classes"] == 3
    assert not masks["per_class"]["d"]  # zero if it was ever predicted, else none
    assert masks["per_class"]["a"] is None
    assert np.isfinite(masks["metrics"]["miou"])


def test_bad_evaluation_samples_that_were_left_out_are_counted(
    shards_root, tmp_path, pairs, monkeypatch
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    opened = PairedShards.__init__

    def with_faults(shards, root):
        opened(shards, root)
        shards.card = shards.card.model_copy(
            update={"quarantined_by_split": {"test": 2, "train": 7}}
        )

    monkeypatch.setattr(PairedShards, "__init__", with_faults)
    cells = [Cell("pairs", "sar", protocol) for protocol in ("linear", "knn", "logistic", "probe")]
    transfer(transfer_settings(recipe()), cells, weights, shards_root.parent, tmp_path)
    for cell in cells:
        found = json.loads((tmp_path / str(cell) / "metrics.json").read_text())["evaluated"]
        assert (found["samples"], found["left_out"]) == (24, 2)


@pytest.mark.parametrize("protocol", ["linear", "knn-5", "logistic"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("shown", ["only the class 'b'", "no class"])
def test_nothing_is_measured_on_evaluation_labels_of_a_single_class(
    shards_root, tmp_path, monkeypatch, protocol, task, shown
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    as_dataset(monkeypatch, "abc", ignore=None if task == "classification" else 0)
    read = {"labels": PairedShards.labels, "masks": PairedShards.masks}

    def of_one_class(shards, kind, rows):
        found = read[kind](shards, rows).copy()
        test = shards.index["split"].to_numpy()[rows] == "test"
        found[test] = 0
        if kind == "masks" and shown != "no class":
            found[test, :3] = 1
        elif shown != "no class":
            found[test, 1] = 1
        return found

    for kind in read:
        monkeypatch.setattr(PairedShards, kind, partialmethod(of_one_class, kind))
    settings, cell = transfer_settings(recipe(task)), Cell("pairs", "sar", protocol)
    with pytest.raises(DecurError, match=f"labels of the split 'test' show {shown}"):
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
    assert not (tmp_path / str(cell)).exists()


@pytest.mark.parametrize("protocol", ["linear", "fine-tune"])
@pytest.mark.parametrize("mode", ["eval", "official"])
def test_a_curve_changes_nothing_and_keeps_the_best_beside_the_last(
    shards_root, tmp_path, pairs, protocol, mode
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", protocol)

    def product(**curve):
        head = {"optimizer": "adamw", "lr": 0.01, "epochs": 5, **curve}
        settings = transfer_settings(recipe(linear=head, fine_tune=head, frozen_mode=mode))
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
        found = json.loads((tmp_path / str(cell) / "metrics.json").read_text())
        return {k: v for k, v in found.items() if k not in ("provenance", "job")}

    plain, watched = product(), product(evaluate_every=2)
    points, best = watched.pop("curve"), watched.pop("best")
    assert watched == plain
    assert [point["epoch"] for point in points] == [2, 4, 5]
    assert points[-1]["map_micro"] == plain["metrics"]["map_micro"]
    top = max(points, key=lambda point: point["map_micro"])
    assert (best["epoch"], best["map_micro"]) == (top["epoch"], top["map_micro"])
    assert best.keys() == plain["metrics"].keys() | {"epoch"}


CMX = {
    "crop": [32, 40],
    "scale_choices": [1.0, 1.5],
    "batch_size": 12,
    "sliding": {"window": [32, 32], "scales": [1.0, 1.5], "flip": True},
    "recipe": {"optimizer": "adamw", "lr": 0.001, "decay_1d": False, "epochs": 2, "warm_up": 0.1},
}


@pytest.mark.slow
def test_cmx_is_trained_on_both_streams_and_read_by_windows(shards_root, tmp_path, pairs):
    base = pretrain_settings(epochs=1, arch="mit_tiny", crop=32)
    weights = train_run(base, shards_root, tmp_path / "run")
    chosen = recipe("segmentation", cmx=CMX)
    settings = transfer_settings(chosen).model_copy(update={"pretrain": base})
    cell = Cell("pairs", "sar+optical", "cmx")
    transfer(settings, [cell], weights, shards_root.parent, tmp_path)
    found = json.loads((tmp_path / str(cell) / "metrics.json").read_text())
    assert found["metrics"].keys() >= {"miou", "accuracy"}
    assert all(np.isfinite(score) for score in found["metrics"].values())
    assert found["missing"].keys() == {"sar", "optical"}
    assert found["missing"]["sar"]["zeros"] != found["missing"]["optical"]["zeros"]


def test_cmx_needs_a_recipe_mix_transformers_and_both_modalities(shards_root, tmp_path, pairs):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cells = [Cell("pairs", "sar+optical", "cmx"), Cell("pairs", "sar", "cmx")]

    def refused(chosen, cell, message):
        with pytest.raises(DecurError, match=message):
            transfer(transfer_settings(chosen), [cell], weights, shards_root.parent, tmp_path)

    refused(recipe("segmentation"), cells[0], "protocol 'cmx': no recipe")
    chosen = recipe("segmentation", cmx=CMX)
    refused(chosen, cells[0], "CMX needs two backbones of one of mit_tiny.*, got TinyNet, TinyNet")
    refused(chosen, cells[1], "CMX needs two backbones")
    with pytest.raises(ValidationError, match="cmx: is for segmentation only"):
        recipe("classification", cmx=CMX)
