import json

import numpy as np
import pytest
import torch

from decur.artifacts.paths import Cell
from decur.models import build_backbone
from decur.models.heads import FCN, LateFusion, TransferModel
from decur.pretrain.loop import train_run
from decur.transfer.evaluate import evaluate
from decur.transfer.missing import evaluate_missing, mean_inputs
from decur.transfer.run import transfer
from decur.transfer.train import train
from tests.support.pretraining import settings as pretrain_settings
from tests.support.transfer import labelled, recipe, transfer_settings

TASKS = {"classification": LateFusion, "segmentation": FCN}


@pytest.fixture(params=TASKS)
def trained(request, shards_root):
    """A fine-tuned model of either task, and its data."""
    torch.manual_seed(0)
    data = labelled(shards_root, recipe(request.param, augment=False))
    model = TASKS[request.param]([build_backbone("tiny", c) for c in (2, 3)], 3)
    train(model, data, np.arange(24), data.settings.fine_tune, frozen=None, seed=0)
    return model, data


class Without(TransferModel):
    """A model that is given a constant image in place of one input."""

    def __init__(self, model, modality, image):
        super().__init__(model.backbones)
        self.model, self.modality, self.image = model, modality, image

    def encode(self, modality, x):
        return self.model.encode(
            modality, self.image.expand_as(x) if modality == self.modality else x
        )

    def head(self, parts, size):
        return self.model.head(parts, size)


def test_an_absent_input_is_zeros_or_the_mean_image_of_the_training_rows(trained):
    model, data = trained
    rows, training = data.shards.rows("test"), np.arange(24)
    found = evaluate_missing(model, data, rows, training)
    assert list(found) == ["sar", "optical"]
    inputs = data.inputs(training, None)[0]
    for i, (modality, by_substitute) in enumerate(found.items()):
        mean = inputs[i].mean(dim=0)
        torch.testing.assert_close(mean_inputs(data, training)[i][0], mean)
        for name, image in {"zeros": torch.zeros_like(mean), "mean": mean}.items():
            expected = evaluate(Without(model, i, image), data, rows)
            assert by_substitute[name].metrics == pytest.approx(expected.metrics, abs=0.1)
        assert by_substitute["zeros"] != by_substitute["mean"], modality


def test_a_model_that_ignores_a_modality_does_not_miss_it(trained):
    model, data = trained
    layers = [model.classifier] if isinstance(model, LateFusion) else list(model.reduce)
    with torch.no_grad():
        for layer in layers:
            layer.weight[:, : layer.weight.shape[1] // 2] = 0  # sar comes first
    rows = data.shards.rows("test")
    found, whole = evaluate_missing(model, data, rows, np.arange(24)), evaluate(model, data, rows)
    for name in ("zeros", "mean"):
        assert found["sar"][name] == whole
        assert found["optical"][name] != whole


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["linear", "fine-tune"])
def test_missing_modalities_change_no_other_result(
    shards_root, tmp_path, monkeypatch, pairs, protocol
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    both, sar = Cell("pairs", "sar+optical", protocol), Cell("pairs", "sar", protocol)
    settings = transfer_settings(recipe(augment=False))

    def products(out):
        transfer(settings, [both, sar], weights, shards_root.parent, tmp_path / out)
        paths = [tmp_path / out / f"{cell}/metrics.json" for cell in (both, sar)]
        found = [json.loads(path.read_text()) for path in paths]
        return [{k: v for k, v in product.items() if k != "job"} for product in found]

    multimodal, single = products("with")
    missing = multimodal.pop("missing")
    assert missing.keys() == {"sar", "optical"}
    assert missing["sar"].keys() == {"zeros", "mean"}
    assert missing["sar"]["zeros"].keys() == multimodal["metrics"].keys()
    assert "missing" not in single
    monkeypatch.setattr("decur.transfer.fit.evaluate_missing", lambda *args: {})
    again, single_again = products("without")
    again.pop("missing")
    assert (again, single_again) == (multimodal, single)
