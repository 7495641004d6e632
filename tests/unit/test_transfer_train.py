"""Heads and backbones are trained on labels as the recipes say."""

import numpy as np
import pytest
import torch

from decur.config import Recipe
from decur.errors import DecurError
from decur.metrics.scores import Scores
from decur.models import build_backbone
from decur.models.heads import FCN, LateFusion
from decur.transfer.evaluate import evaluate
from decur.transfer.features import FrozenFeatures
from decur.transfer.fit import curve
from decur.transfer.missing import evaluate_missing
from decur.transfer.train import batch_loss, learning_rate, recipe_optimizer, train
from tests.support.transfer import DroppingFCN, labelled, recipe


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


def test_weight_decay_can_spare_biases_and_norms():
    model = LateFusion([build_backbone("tiny", 2)], 3)
    for spared in (True, False):
        recipe = Recipe(optimizer="adamw", lr=0.1, weight_decay=0.1, epochs=1, decay_1d=not spared)
        decays = {
            parameter: group["weight_decay"]
            for group in recipe_optimizer(model, recipe).param_groups
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
