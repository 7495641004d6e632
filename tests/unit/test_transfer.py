import dataclasses
import json
from functools import partialmethod
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from decur import datasets
from decur.artifacts.paths import Cell
from decur.config import Recipe, Transfer, TransferSettings
from decur.datasets import Dataset
from decur.errors import DecurError
from decur.metrics.scores import Scores
from decur.models import build_backbone
from decur.models.heads import FCN, LateFusion
from decur.pretrain.loop import pretrain
from decur.shards import PairedShards
from decur.training.methods import build_model
from decur.transfer.cell import CellInputs
from decur.transfer.data import NO_CLASS, LabelledData, classes_shown, label_subset
from decur.transfer.evaluate import evaluate
from decur.transfer.features import FrozenFeatures
from decur.transfer.fit import curve
from decur.transfer.missing import evaluate_missing
from decur.transfer.protocols.probes import probe_factors, split_dimensions
from decur.transfer.run import transfer
from decur.transfer.task import build_task
from decur.transfer.train import batch_loss, build_optimizer, learning_rate, train
from tests.unit.test_pretrain import settings as pretrain_settings

PRESETS = {"sar": "sar", "optical": "optical"}


def recipe(task="classification", **changes):
    head = {"optimizer": "adamw", "lr": 0.01, "epochs": 12}
    tree = {"task": task, "crop": 16, "batch_size": 12, "linear": head, "fine_tune": head}
    return Transfer.model_validate({**tree, **changes})


def labelled(shards_root, chosen, ignore=None):
    return LabelledData(PairedShards(shards_root), PRESETS, chosen, ignore, torch.device("cpu"))


def test_label_subsets_are_seeded_without_replacement_and_never_empty():
    ids = [f"sample-{i:04d}" for i in range(300)]
    subset = label_subset(ids, 10, seed=1)
    assert len(set(subset)) == 30
    assert set(subset) <= set(range(300))
    np.testing.assert_array_equal(subset, label_subset(ids, 10, seed=1))
    assert list(subset) != list(label_subset(ids, 10, seed=2))
    np.testing.assert_array_equal(label_subset(ids, 100, seed=1), range(300))
    with pytest.raises(DecurError, match=r"0\.1 % of 300 samples selects 0"):
        label_subset(ids, 0.1, seed=1)
    with pytest.raises(DecurError, match="100 % of 0 samples selects 0"):
        label_subset([], 100, seed=1)
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(DecurError, match="is no share; give more than 0 and at most 100"):
            label_subset(ids, percent, seed=1)


def test_label_subsets_do_not_depend_on_the_order_of_the_samples():
    ids = np.array([f"sample-{i:04d}" for i in range(300)])
    shuffled = np.random.default_rng(0).permutation(ids)
    chosen = set(ids[label_subset(ids.tolist(), 10, seed=1)])
    assert chosen == set(shuffled[label_subset(shuffled.tolist(), 10, seed=1)])


def test_crops_and_flips_are_common_to_modalities_and_mask(shards_root):
    """The mask, drawn into both modalities, must move with them."""
    data = labelled(shards_root, recipe("segmentation", crop=20, crop_scale=(0.3, 1.0)))
    rows = np.arange(12)
    masks = data.shards.masks(rows)
    patch = {name: np.repeat(masks[:, None] * 50, 2, axis=1) for name in PRESETS}
    fake = SimpleNamespace(batch=lambda name, rows: patch[name], masks=data.shards.masks)
    drawn = dataclasses.replace(data, shards=fake)
    (sar, optical), targets = drawn.inputs(rows, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sar, optical)
    agree = (sar[:, 0] * 255 / 50).round() == targets
    assert agree.float().mean() > 0.93  # bilinear against nearest, along the class borders
    assert not np.array_equal(targets.numpy(), masks)


def test_images_resampled_by_nearest_keep_their_values_and_meet_the_mask(shards_root):
    """As the released code for GeoNRW; bilinear, crops have values of their own."""
    chosen = recipe("segmentation", crop=20, crop_scale=(0.3, 1.0), resample="nearest")
    data, rows = labelled(shards_root, chosen), np.arange(12)
    masks = data.shards.masks(rows)
    patch = {name: np.repeat(masks[:, None] * 50, 2, axis=1) for name in PRESETS}
    fake = SimpleNamespace(batch=lambda name, rows: patch[name], masks=data.shards.masks)
    drawn = dataclasses.replace(data, shards=fake)
    (sar, _), targets = drawn.inputs(rows, torch.Generator().manual_seed(0))
    assert torch.equal((sar[:, 0] * 255 / 50).round(), targets.float())
    smooth = dataclasses.replace(drawn, settings=chosen.model_copy(update={"resample": "bilinear"}))
    (sar, _), same = smooth.inputs(rows, torch.Generator().manual_seed(0))
    assert torch.equal(same, targets)
    assert not torch.equal((sar[:, 0] * 255 / 50).round(), targets.float())


def test_training_crops_are_flipped_top_to_bottom_on_request(shards_root):
    """As the later released code for BigEarthNet-MM; all else is drawn as without."""
    views = []
    for chance in (0.0, 1.0, 0.5):
        data = labelled(shards_root, recipe(vflip=chance))
        (sar, _), _ = data.inputs(np.arange(48), torch.Generator().manual_seed(0))
        views.append(sar)
    plain, flipped, some = views
    torch.testing.assert_close(plain.flip(2), flipped)
    chosen = (some - plain).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert 10 < chosen.sum() < 38
    torch.testing.assert_close(some[chosen], flipped[chosen])


def test_switches_to_the_released_code_leave_other_settings_as_they_were():
    told = recipe("segmentation").model_dump()
    assert not {"vflip", "resample", "classifier_init"} & told.keys()
    switched = {"vflip": 0.5, "resample": "nearest", "classifier_init": "official"}
    assert recipe("classification", **switched).model_dump().items() >= switched.items()


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


def test_scaled_crops_are_windows_of_the_enlarged_image_and_move_with_the_mask(shards_root):
    """As CMX: enlarge by one of the factors, cut a window; beyond the image nothing counts."""
    chosen = recipe("segmentation", crop=(20, 30), scale_choices=(0.5, 1.75))
    data, rows = labelled(shards_root, chosen), np.arange(12)
    masks = data.shards.masks(rows)
    patch = {name: np.repeat(masks[:, None] * 50 + 50, 2, axis=1) for name in PRESETS}
    fake = SimpleNamespace(batch=lambda name, rows: patch[name], masks=data.shards.masks)
    drawn = dataclasses.replace(data, shards=fake)
    (sar, optical), targets = drawn.inputs(rows, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sar, optical)
    outside = targets == NO_CLASS
    assert (sar[:, 0][outside] == 0).all()
    small = [0.5 * n for n in masks.shape[1:]]
    shares = outside.float().mean(dim=(1, 2))
    halved = shares > 0.4
    assert 0 < halved.sum() < 12
    expected = 1 - small[0] * small[1] / (20 * 30)
    torch.testing.assert_close(shares[halved], torch.full_like(shares[halved], expected))
    inside = ~outside
    agree = ((sar[:, 0] * 255 / 50).round() - 1 == targets)[inside]
    assert agree.float().mean() > 0.9


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_frozen_backbones_do_not_change_and_fine_tuned_ones_do(shards_root, task):
    for frozen in ("eval", None):
        for augment in (True, False):
            torch.manual_seed(0)
            data = labelled(shards_root, recipe(task, augment=augment))
            head = LateFusion if task == "classification" else FCN
            model = head([build_backbone("tiny", c) for c in (2, 3)], 3)
            before = {k: v.clone() for k, v in model.backbones.state_dict().items()}
            train(model, data, np.arange(24), data.settings.linear, frozen=frozen, seed=0)
            same = [torch.equal(v, before[k]) for k, v in model.backbones.state_dict().items()]
            assert all(same) == (frozen is not None)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("mode", ["eval", "official"])
def test_frozen_batch_norm_moves_in_the_official_mode_alone_and_parameters_never(
    shards_root, mode, augment
):
    torch.manual_seed(0)
    data = labelled(shards_root, recipe(augment=augment, frozen_mode=mode))
    model = LateFusion([build_backbone("tiny", c) for c in (2, 3)], 3)
    before = {k: v.clone() for k, v in model.backbones.state_dict().items()}
    train(model, data, np.arange(24), data.settings.linear, frozen=mode, seed=0)
    moved = {k for k, v in model.backbones.state_dict().items() if not torch.equal(v, before[k])}
    statistics = {name for name, _ in model.backbones.named_buffers()}
    assert moved == (statistics if mode == "official" else set())
    assert all(p.grad is None for p in model.backbones.parameters())


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_training_on_labels_learns(shards_root, task):
    torch.manual_seed(0)
    data = labelled(shards_root, recipe(task, augment=False))
    head = LateFusion if task == "classification" else FCN
    model = head([build_backbone("tiny", c) for c in (2, 3)], 3)
    metric = "map_macro" if task == "classification" else "miou"
    test = data.shards.rows("test")
    before = evaluate(model, data, test).metrics[metric]
    train(model, data, data.shards.rows("train"), data.settings.fine_tune, frozen=None, seed=0)
    assert evaluate(model, data, test).metrics[metric] > before + 20


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_cached_features_train_the_head_that_re_encoding_trains(shards_root, task):
    """The fast road is the plain one, to rounding: weights, metrics, and with one input absent."""
    data, rows = labelled(shards_root, recipe(task, augment=False)), np.arange(24)
    test = data.shards.rows("test")
    heads, scores, missing = [], [], []
    for features in (FrozenFeatures(), None):
        torch.manual_seed(0)
        head = LateFusion if task == "classification" else FCN
        model = head([build_backbone("tiny", c) for c in (2, 3)], 3)
        how = {"frozen": "eval", "seed": 0, "features": features}
        train(model, data, rows, data.settings.linear, **how)
        heads.append([p.detach() for n, p in model.named_parameters() if "backbones" not in n])
        scores.append(evaluate(model, data, test, features).metrics)
        found = evaluate_missing(model, data, test, rows, features)
        missing.append(found["optical"]["mean"].metrics)
    for fast, plain in zip(*heads, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-4)
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
    assert missing[0] == pytest.approx(missing[1], abs=0.1)


def test_frozen_images_are_encoded_once_for_all_heads_rates_and_fractions(
    shards_root, tmp_path, pairs, monkeypatch
):
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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


def test_a_sweep_takes_the_rate_that_does_best_on_held_out_labels(shards_root, tmp_path, pairs):
    """A rate of next to nothing cannot learn; evaluation data must not choose."""
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    head = {"optimizer": "adamw", "lr": 0.01, "lr_sweep": [0.1], "epochs": 1}
    settings = transfer_settings(recipe(linear=head))
    cell = Cell("pairs", "sar", "linear", 10)
    with pytest.raises(DecurError, match="lr_sweep: 4 labelled samples are too few"):
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_nearest_neighbours_need_no_training(shards_root, tmp_path, pairs, task):
    """And are the same whether features are kept in memory or not."""
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cell = Cell("pairs", "sar+optical", "knn", 50)
    found = []
    for augment in (True, False):
        settings = transfer_settings(recipe(task, augment=augment))
        transfer(settings, [cell], weights, shards_root.parent, tmp_path)
        found.append(json.loads((tmp_path / str(cell) / "metrics.json").read_text()))
    names = {"classification": {"map_micro", "map_macro"}, "segmentation": {"dominant_class"}}
    assert found[0]["metrics"].keys() == names[task]
    assert found[0]["metrics"] == pytest.approx(found[1]["metrics"])
    assert found[0]["counts"] == {"train": 24}
    assert len((tmp_path / str(cell) / "labels.txt").read_text().splitlines()) == 24


def test_windows_read_a_frozen_fcn_as_they_read_any(shards_root, tmp_path, pairs):
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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


def test_weight_decay_can_spare_biases_and_norms():
    model = LateFusion([build_backbone("tiny", 2)], 3)
    for spared in (True, False):
        recipe = Recipe(optimizer="adamw", lr=0.1, weight_decay=0.1, epochs=1, decay_1d=not spared)
        decays = {
            parameter: group["weight_decay"]
            for group in build_optimizer(model, recipe).param_groups
            for parameter in group["params"]
        }
        assert len(decays) == len(list(model.parameters()))
        for name, parameter in model.named_parameters():
            one = name.endswith("bias") or ".1." in name
            assert decays[parameter] == (0 if spared and one else 0.1), name


def test_a_batch_of_ignored_pixels_has_no_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = batch_loss(logits, torch.full((2, 4, 4), 255), ignore=255)
    loss.backward()
    assert loss == 0
    assert torch.count_nonzero(logits.grad) == 0


def test_batch_norm_in_training_mode_refuses_one_sample(shards_root):
    model = LateFusion([build_backbone("tiny", c) for c in (2, 3)], 3)
    for frozen in (None, "official"):
        data = labelled(shards_root, recipe())
        with pytest.raises(DecurError, match="needs two labelled samples"):
            train(model, data, np.arange(1), data.settings.fine_tune, frozen=frozen, seed=0)


def test_a_linear_head_trains_on_one_sample(shards_root):
    data = labelled(shards_root, recipe())
    model = LateFusion([build_backbone("tiny", c) for c in (2, 3)], 3)
    before = model.classifier.weight.clone()
    train(model, data, np.arange(1), data.settings.linear, frozen="eval", seed=0)
    assert not torch.equal(model.classifier.weight, before)
    assert evaluate(model, data, np.arange(1)).metrics["map_micro"] >= 0


def test_learning_rates_follow_their_schedule():
    steps = Recipe(optimizer="sgd", lr=1, epochs=10, schedule="steps", milestones=(0.6, 0.8))
    rates = [learning_rate(steps, s, 10) for s in (0, 5, 6, 8, 9)]
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.01, 0.01])
    poly = Recipe(optimizer="sgd", lr=1, steps=10, schedule="poly")
    assert learning_rate(poly, 5, 10) == pytest.approx(0.5**0.9)


def test_the_warm_up_rises_from_zero_and_hands_over_to_the_schedule():
    """CMX on NYUv2: 500 epochs of 100 steps, ten of them warm-up."""
    cmx = Recipe(optimizer="adamw", lr=6e-5, epochs=500, schedule="poly", warm_up=0.02)
    rates = [learning_rate(cmx, s, 50_000) for s in (0, 500, 999, 1000, 25_000, 49_999)]
    expected = [0, 3e-5, 5.994e-5, 5.8918911996e-5, 3.2153203876e-5, 3.5406112625e-9]
    assert rates == pytest.approx(expected, rel=1e-9)
    constant = Recipe(optimizer="adamw", lr=1, steps=10, warm_up=0.3)
    assert [learning_rate(constant, s, 10) for s in range(5)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 1]
    )


def test_probes_read_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    known, hidden = rng.integers(0, 3, (2, 600))
    features = np.eye(3)[known] + 0.2 * rng.normal(size=(600, 3))
    parts = {"known": known, "hidden": hidden}
    accuracy = probe_factors(
        features[:400], features[400:], {k: (v[:400], v[400:]) for k, v in parts.items()}
    )
    assert accuracy["known"] > 97
    assert accuracy["hidden"] < 45


def test_common_and_unique_halves_are_equally_wide():
    z = torch.arange(10).expand(2, 10)
    assert split_dimensions(z, 7, "common")[0].tolist() == [0, 1, 2]
    assert split_dimensions(z, 7, "unique")[0].tolist() == [7, 8, 9]
    with pytest.raises(DecurError, match="has no halves"):
        split_dimensions(z, 10, "common")


def as_dataset(monkeypatch, classes, ignore=None):
    """Make the fixture's shards a dataset of such classes."""
    facts = Dataset("pairs", "Pairs", (), "none", "none", classes=tuple(classes), ignore=ignore)
    monkeypatch.setattr(datasets, "facts", lambda name, card: facts)


@pytest.fixture
def pairs(monkeypatch):
    """The shards of the fixture as a dataset of three classes."""
    as_dataset(monkeypatch, "abc")


def transfer_settings(chosen):
    """Settings of the transfer of a run whose dataset is `pairs`."""
    base = pretrain_settings(epochs=1)
    return TransferSettings(
        run="sar-optical/decur/default/seed-1", pretrain=base, recipes={"pairs": chosen}
    )


def test_one_job_writes_the_metrics_of_every_cell(shards_root, tmp_path, pairs):
    base = pretrain_settings(epochs=1)
    weights = pretrain(base, shards_root, tmp_path / "run")
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


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_images_smaller_than_the_crop_are_enlarged_to_it(shards_root, task):
    data = labelled(shards_root, recipe(task, crop=32))
    xs, targets = data.inputs(np.arange(4), torch.Generator().manual_seed(0))
    assert [x.shape for x in xs] == [(4, 2, 32, 32), (4, 3, 32, 32)]
    assert all(x.isfinite().all() for x in xs)
    if task == "segmentation":
        assert targets.shape == (4, 32, 32)
        assert set(targets.unique().tolist()) <= {0, 1, 2}
    model = (LateFusion if task == "classification" else FCN)(
        [build_backbone("tiny", c) for c in (2, 3)], 3
    )
    train(model, data, np.arange(12), data.settings.linear, frozen="eval", seed=0)
    scores = evaluate(model, data, data.shards.rows("test"))
    assert all(np.isfinite(score) for score in scores.metrics.values())


def test_classes_shown_are_those_of_the_rows_and_ignored_pixels_show_none(shards_root):
    data = labelled(shards_root, recipe("segmentation"), ignore=2)
    masks = data.shards.masks(np.arange(3))
    assert classes_shown(data, np.arange(3), "abcd").tolist() == [i in masks for i in range(4)]
    assert classes_shown(data, np.arange(72), "ab").tolist() == [True, True]
    several = labelled(shards_root, recipe())
    expected = several.shards.labels(np.arange(1)).any(axis=0).tolist()
    assert classes_shown(several, np.arange(1), "abc").tolist() == expected


def test_a_label_outside_the_classes_is_refused_by_the_name_of_its_sample(shards_root):
    data = labelled(shards_root, recipe("segmentation"))
    masks = data.shards.masks(np.arange(72))
    first = int(np.flatnonzero((masks == 2).any(axis=(1, 2)))[0])
    with pytest.raises(DecurError, match=f"sample '{first:04d}' has the label 2, expected 0, 1;"):
        classes_shown(data, np.arange(72), "ab")
    wide = labelled(shards_root, recipe())
    with pytest.raises(DecurError, match="has labels of 3 classes, the dataset has 4"):
        classes_shown(wide, np.arange(72), "abcd")
    odd = SimpleNamespace(root="r", index=data.shards.index, labels=lambda rows: 2 * masks[rows, 0])
    data = dataclasses.replace(wide, shards=odd)
    with pytest.raises(DecurError, match=r"has the label [24], expected 0, 1;"):
        classes_shown(data, np.arange(72), "a" * 20)


@pytest.mark.parametrize("wrong", ["train", "test"])
def test_no_head_is_trained_on_or_before_a_wrong_label(shards_root, tmp_path, monkeypatch, wrong):
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")

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
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    opened = PairedShards.__init__

    def with_faults(shards, root):
        opened(shards, root)
        shards.card["quarantined_by_split"] = {"test": 2, "train": 7}

    monkeypatch.setattr(PairedShards, "__init__", with_faults)
    cells = [Cell("pairs", "sar", protocol) for protocol in ("linear", "knn", "probe")]
    transfer(transfer_settings(recipe()), cells, weights, shards_root.parent, tmp_path)
    for cell in cells:
        found = json.loads((tmp_path / str(cell) / "metrics.json").read_text())["evaluated"]
        assert (found["samples"], found["left_out"]) == (24, 2)


@pytest.mark.parametrize("protocol", ["linear", "knn"])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("shown", ["one class alone, 'b'", "no class"])
def test_nothing_is_measured_on_evaluation_labels_of_a_single_class(
    shards_root, tmp_path, monkeypatch, protocol, task, shown
):
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
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


class DroppingFCN(FCN):
    """An FCN that drops half of what it is given, in training."""

    def head(self, parts, size):
        dropped = [[F.dropout(x, 0.5, self.training) for x in part] for part in parts]
        return super().head(dropped, size)


@pytest.mark.parametrize("frozen", ["eval", None])
def test_looking_at_a_model_in_training_leaves_the_same_weights(shards_root, frozen):
    """Dropout draws from the global random state, which an evaluation must leave alone."""
    weights = []
    for every in (None, 1):
        torch.manual_seed(0)
        head = {"optimizer": "sgd", "lr": 0.1, "epochs": 3, "evaluate_every": every}
        data = labelled(shards_root, recipe("segmentation", linear=head, fine_tune=head))
        model = DroppingFCN([build_backbone("tiny", c) for c in (2, 3)], 3)
        looks = []

        def look(epoch, model=model, data=data, looks=looks):
            looks.append((epoch, evaluate(model, data, data.shards.rows("test"))))

        chosen = data.settings.linear
        train(model, data, np.arange(24), chosen, frozen=frozen, seed=0, evaluate=look)
        assert [epoch for epoch, _ in looks] == ([3] if every is None else [1, 2, 3])
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_best_epoch_is_the_first_of_the_highest_and_never_one_without_a_number():
    scores = [float("nan"), 40.0, 60.0, 60.0, 50.0]
    looks = [(e, Scores({"miou": s, "accuracy": e}, [])) for e, s in enumerate(scores, start=1)]
    assert curve(looks, "miou")["best"] == {"epoch": 3, "miou": 60, "accuracy": 3}


CMX = {
    "crop": [32, 40],
    "scale_choices": [1.0, 1.5],
    "batch_size": 12,
    "sliding": {"window": [32, 32], "scales": [1.0, 1.5], "flip": True},
    "recipe": {"optimizer": "adamw", "lr": 0.001, "decay_1d": False, "epochs": 2, "warm_up": 0.1},
}


def test_cmx_is_trained_on_both_streams_and_read_by_windows(shards_root, tmp_path, pairs):
    base = pretrain_settings(epochs=1, arch="mit_tiny", crop=32)
    weights = pretrain(base, shards_root, tmp_path / "run")
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
    weights = pretrain(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    cells = [Cell("pairs", "sar+optical", "cmx"), Cell("pairs", "sar", "cmx")]

    def refused(chosen, cell, message):
        with pytest.raises(DecurError, match=message):
            transfer(transfer_settings(chosen), [cell], weights, shards_root.parent, tmp_path)

    refused(recipe("segmentation"), cells[0], "protocol 'cmx': no recipe")
    chosen = recipe("segmentation", cmx=CMX)
    refused(chosen, cells[0], "CMX takes two backbones of one of mit_tiny.*, not TinyNet, TinyNet")
    refused(chosen, cells[1], "CMX takes two backbones")
    with pytest.raises(ValidationError, match="cmx: is for segmentation only"):
        recipe("classification", cmx=CMX)
