"""Labelled subsets, crops and targets of transfers."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from decur.errors import DecurError
from decur.models import build_backbone
from decur.models.heads import FCN, LateFusion
from decur.transfer.data import NO_CLASS, classes_shown, label_subset
from decur.transfer.evaluate import evaluate
from decur.transfer.train import train
from tests.support.transfer import PRESETS, labelled, recipe


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
        with pytest.raises(DecurError, match="labels: "):
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
    with pytest.raises(DecurError, match=rf"'{first:04d}'.* label 2\b"):
        classes_shown(data, np.arange(72), "ab")
    wide = labelled(shards_root, recipe())
    with pytest.raises(DecurError, match=r"\b3 classes.*\b4\b"):
        classes_shown(wide, np.arange(72), "abcd")
    odd = SimpleNamespace(root="r", index=data.shards.index, labels=lambda rows: 2 * masks[rows, 0])
    data = dataclasses.replace(wide, shards=odd)
    with pytest.raises(DecurError, match=r" label [24]\b"):
        classes_shown(data, np.arange(72), "a" * 20)
