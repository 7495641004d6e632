"""What only a GPU can show: work beside the steps, and the same results as on a CPU."""

import json

import numpy as np
import pytest
import torch

from decur.errors import DecurError
from decur.pretrain.loop import prepare, train_run, training_step
from decur.shards import PairedShards
from decur.training.methods import build_model
from decur.training.prefetch import SideStream, bring_back
from decur.training.views import augment_batch, read_batch
from tests.support.pretraining import settings as small_settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = torch.device("cuda")


def settings(**changes):
    return small_settings(
        **{"arch": "resnet18", "crop": 32, "monitor_steps": 2, "checkpoint_steps": 1000, **changes}
    )


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out):
    return [line["loss"] for line in log(out)]


@pytest.fixture
def exact(monkeypatch):
    """Convolutions in float32, not in the TF32 that torch takes by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_views_are_those_of_a_cpu(shards_root):
    batch = read_batch(PairedShards(shards_root), np.arange(16), settings(), 0, 2)
    on_cpu, on_gpu = (augment_batch(batch, settings(), d) for d in (torch.device("cpu"), GPU))
    for of_cpu, of_gpu in zip(on_cpu, on_gpu, strict=True):
        for a, b in zip(of_cpu, of_gpu, strict=True):
            torch.testing.assert_close(b.cpu(), a, rtol=0, atol=1e-4)


def test_a_side_streams_tensors_are_finished_when_taken():
    beside = SideStream(GPU)
    x = torch.rand(2048, 2048, device=GPU)

    def make(i):
        y = torch.full((2048, 2048), float(i), device=GPU)
        for _ in range(20):
            y = (y @ x).clamp_(i, i)
        return [[y]]

    torch.cuda.synchronize()
    for i in range(20):
        ((made,),) = beside.start(lambda i=i: make(i))()
        assert bring_back({"low": made.min(), "high": made.max()})() == {"low": i, "high": i}
        del made


def test_a_run_is_that_of_a_cpu_and_logs_every_step(shards_root, tmp_path, exact):
    for device in ("cpu", "cuda"):
        train_run(settings(), shards_root, tmp_path / device, device=device)
    on_cpu, on_gpu = (log(tmp_path / d) for d in ("cpu", "cuda"))
    assert [line["step"] for line in on_gpu] == list(range(6))
    assert on_gpu[0]["memory_gib"] > 0
    np.testing.assert_allclose(on_gpu[0]["loss"], on_cpu[0]["loss"], rtol=1e-4)
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), rtol=0.05)


@pytest.mark.parametrize(
    ("arch", "optimizer", "compiled"),
    [
        ("resnet18", "lars", "none"),
        ("tiny", "lars", "optimizer"),
        ("mit_b0", "adamw", "none"),
    ],
)
def test_replayed_steps_are_the_plain_steps(
    shards_root, tmp_path, exact, arch, optimizer, compiled
):
    """Over four epochs, so with four learning rates, and with dropped paths in mit_b0."""
    for name in ("plain", "graph"):
        chosen = settings(
            arch=arch,
            optimizer=optimizer,
            lr=0.2 if optimizer == "lars" else 1e-4,
            epochs=4,
            compile=compiled if name == "graph" else "none",
            cuda_graph=name == "graph",
        )
        train_run(chosen, shards_root, tmp_path / name, device="cuda")
    assert [line["step"] for line in log(tmp_path / "graph")] == list(range(12))
    np.testing.assert_allclose(losses(tmp_path / "graph"), losses(tmp_path / "plain"), rtol=0.02)


def test_a_run_stopped_between_two_checkpoints_goes_on(shards_root, tmp_path, monkeypatch, exact):
    chosen = settings(checkpoint_steps=2)
    train_run(chosen, shards_root, tmp_path / "whole", device="cuda")
    calls = []

    def stopping(*arguments):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return training_step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("decur.pretrain.loop.training_step", stopping)
        train_run(chosen, shards_root, tmp_path / "stopped", device="cuda")
    assert [line["step"] for line in log(tmp_path / "stopped")] == list(range(4))
    train_run(chosen, shards_root, tmp_path / "stopped", device="cuda")
    np.testing.assert_allclose(losses(tmp_path / "stopped"), losses(tmp_path / "whole"), rtol=1e-2)


def test_a_loss_that_is_not_finite_is_named_with_its_step(shards_root, tmp_path):
    chosen = settings(lr=1e30, optimizer="adamw", epochs=9)
    with pytest.raises(DecurError, match=r"loss is (nan|inf) at step 1 \(samples"):
        train_run(chosen, shards_root, tmp_path, device="cuda")


@pytest.mark.parametrize("grain", ["view", "block"])
def test_recomputed_steps_are_the_plain_steps(shards_root, grain, exact):
    shards, rows = PairedShards(shards_root), np.arange(16)

    def trained(recompute):
        chosen = settings(recompute=recompute)
        model = build_model(chosen, shards).to(GPU).train()
        network = prepare(model, chosen)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for step in range(2):
            batch = read_batch(shards, rows, chosen, step, 2)
            training_step(network, model, optimizer, augment_batch(batch, chosen, GPU), chosen)
        return model.state_dict()

    plain, again = trained("none"), trained(grain)
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-3)


def test_bf16_ends_in_a_float32_loss_near_the_exact_one(shards_root):
    shards, rows = PairedShards(shards_root), np.arange(16)

    def loss(precision):
        chosen = settings(precision=precision)
        model = build_model(chosen, shards).to(GPU).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        views = augment_batch(read_batch(shards, rows, chosen, 0, 2), chosen, GPU)
        return training_step(prepare(model, chosen), model, optimizer, views, chosen)[1]["loss"]

    assert loss("bf16").dtype == torch.float32
    assert loss("bf16") != loss("float32")
    torch.testing.assert_close(loss("bf16"), loss("float32"), rtol=0.05, atol=0)
