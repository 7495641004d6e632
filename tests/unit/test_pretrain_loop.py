import json
import shutil
import sys
import types

import numpy as np
import pytest
import torch

from decur.cli import main
from decur.config import apply_variant
from decur.config.methods import METHODS
from decur.errors import DecurError
from decur.pretrain.loop import prepare, train_run, training_step
from decur.pretrain.step_profile import profile_steps
from decur.shards import PairedShards
from decur.training.methods import build_model, compute_loss
from decur.weights import branch_weights, load_backbone, read_weights
from tests.support.pretraining import draw_views, log, settings, tensors, train_until


def test_the_log_watches_alignment_and_collapse(shards_root, tmp_path):
    train_run(settings(monitor_steps=2), shards_root, tmp_path)
    lines = log(tmp_path)
    for line in lines:
        assert {"loss", "intra1", "intra2", "common", "unique", "lr0", "lr1"} <= line.keys()
        watched = {"align_common", "align_unique", "align_intra1", "std1", "rank1", "std2", "rank2"}
        assert (watched <= line.keys()) == (line["step"] % 2 == 0)
    assert 1 < lines[0]["rank1"] <= 15


@pytest.mark.slow
def test_training_learns(shards_root, tmp_path):
    train_run(settings(epochs=12, optimizer="adamw", lr=0.003), shards_root, tmp_path)
    losses = [line["loss"] for line in log(tmp_path)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("method", ["random", "supervised"])
def test_methods_that_pretrain_nothing_write_the_seeded_initialisation(
    shards_root, tmp_path, method
):
    train_run(settings(method=method), shards_root, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    model = build_model(settings(method=method), PairedShards(shards_root))
    written = tensors(tmp_path)
    assert all(torch.equal(p, written[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, r"batch_size: 64 exceeds the 48 samples"),
        ({"modalities": {"sar": "sar", "dem": "dem"}}, "no modality 'dem'"),
        ({"lr": 1e30, "optimizer": "adamw", "epochs": 9}, r"loss is nan at step \d+ \(samples \d"),
    ],
)
def test_unusable_settings_end_in_one_line(shards_root, tmp_path, changes, message):
    with pytest.raises(DecurError, match=message):
        train_run(settings(**changes), shards_root, tmp_path / "out")
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_backbones_load_back_and_mismatches_are_named(shards_root, tmp_path):
    weights = train_run(settings(method="random"), shards_root, tmp_path)
    loaded, metadata = read_weights(weights)
    assert metadata.bands["sar"] == ("VV", "VH")
    assert metadata.provenance.settings["seed"] == 1
    sar = branch_weights(loaded, 0)
    backbone = load_backbone(sar, arch="tiny", in_chans=2)
    assert torch.equal(backbone.state_dict()["stage1.0.weight"], sar["stage1.0.weight"])
    with pytest.raises(DecurError, match=r"'stage1\.0\.weight' is \(16, 2, 3, 3\), but tiny with"):
        load_backbone(sar, arch="tiny", in_chans=13)
    with pytest.raises(DecurError, match=r"'conv1\.weight' of resnet18 is missing"):
        load_backbone(sar, arch="resnet18", in_chans=2)
    with pytest.raises(DecurError, match="is not part of tiny"):
        load_backbone({**sar, "head": torch.zeros(1)}, arch="tiny", in_chans=2)
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:500])
    with pytest.raises(DecurError, match=r"cut\.safetensors: "):
        read_weights(tmp_path / "cut.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["default", "official"])
@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.trained])
def test_every_method_pretrains_both_backbones(shards_root, tmp_path, method, preset):
    chosen = apply_variant(settings(method=method, optimizer="adamw", lr=0.003), preset)
    weights = train_run(chosen, shards_root, tmp_path)
    before = build_model(chosen, PairedShards(shards_root)).state_dict()
    after, _ = read_weights(weights)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"backbones.0.stage1.0.weight", "backbones.1.stage1.0.weight"} <= moved
    assert ("log_scale" in moved) == (method == "clip" and preset == "default")


@pytest.mark.slow
@pytest.mark.parametrize("grain", ["view", "block"])
@pytest.mark.parametrize("arch", ["tiny", "resnet18"])
def test_recomputing_activations_changes_nothing(shards_root, grain, arch):
    """Equal weights, running statistics and counters after two steps."""
    shards, rows = PairedShards(shards_root), np.arange(16)

    def trained(recompute):
        chosen = settings(arch=arch, recompute=recompute, crop=32)
        model = build_model(chosen, shards).train()
        network = prepare(model, chosen)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        for step in range(2):
            views = draw_views(shards, rows, chosen, step, 2)
            training_step(network, model, optimizer, views, chosen)
        return model.state_dict()

    plain, again = trained("none"), trained(grain)
    assert plain.keys() == again.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)


def test_bf16_networks_end_in_a_float32_loss_near_the_exact_one(shards_root):
    shards, rows = PairedShards(shards_root), np.arange(16)

    def loss(precision):
        chosen = settings(precision=precision)
        model = build_model(chosen, shards).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        views = draw_views(shards, rows, chosen, 0, 2)
        return training_step(prepare(model, chosen), model, optimizer, views, chosen)[1]["loss"]

    assert loss("bf16").dtype == torch.float32
    assert loss("bf16") != loss("float32")
    torch.testing.assert_close(loss("bf16"), loss("float32"), rtol=0.05, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_the_same_losses(shards_root, tmp_path):
    for name in ("plain", "compiled"):
        chosen = settings(compile="all" if name == "compiled" else "none")
        train_run(chosen, shards_root, tmp_path / name)
    plain, compiled = (
        [line["loss"] for line in log(tmp_path / name)] for name in ("plain", "compiled")
    )
    np.testing.assert_allclose(compiled[:3], plain[:3], rtol=1e-4)


def test_chunks_average_the_losses_of_parts_of_the_batch(shards_root):
    """What accumulation is: the mean gradient of losses that each see one part, norms included."""
    shards = PairedShards(shards_root)
    chosen = settings(accumulate_chunks=2)
    views = draw_views(shards, shards.rows("train")[:16], chosen, 0, 2)
    views = [[x.double() for x in branch] for branch in views]

    def gradients(parts, scale):
        model = build_model(chosen, shards).train().double()
        grads = None
        for part in parts:
            terms = compute_loss(model(part), chosen, model.log_scale)
            (terms["loss"] * scale).backward()
            grads = [p.grad for p in model.parameters()]
        return grads

    halves = [[[x[i : i + 8] for x in branch] for branch in views] for i in (0, 8)]
    expected = gradients(halves, 0.5)
    model = build_model(chosen, shards).train().double()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    _, terms = training_step(prepare(model, chosen), model, still, views, chosen)
    for ours, theirs in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs)
    whole = gradients([views], 1.0)
    assert not torch.allclose(whole[0], expected[0], rtol=1e-2)
    assert float(terms["loss"]) > 0


def test_chunks_must_divide_the_batch():
    with pytest.raises(ValueError, match=r"batch_size \(16\).*accumulate_chunks"):
        settings(accumulate_chunks=3)


def test_vicreg_as_released_needs_rows_on_each_of_its_ranks(shards_root, tmp_path):
    chosen = apply_variant(settings(method="vicreg", batch_size=4), "official")
    with pytest.raises(DecurError, match="needs a batch of more than 4"):
        train_run(chosen, shards_root, tmp_path)


def test_a_profile_names_the_parts_of_a_step_and_leaves_the_run_alone(
    shards_root, tmp_path, capsys
):
    text = settings(epochs=3).model_dump_json()
    command = ["pretrain", "--settings", text, "--shards", str(shards_root), "--profile"]
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    rows = [line.split("|")[1:4] for line in capsys.readouterr().out.splitlines() if "|" in line]
    shares = {name.strip(): float(share) for name, _, share in rows[2:]}
    parts = ("augment", "forward", "loss", "backward", "optimiser", "log", "checkpoint")
    assert {*parts, "waiting for data"} == shares.keys()
    assert sum(shares.values()) == pytest.approx(100, abs=1)
    assert all(shares[name] > 0 for name in parts)
    assert [path.name for path in out.iterdir()] == ["profile.json"]
    names = {
        event.get("name") for event in json.loads((out / "profile.json").read_text())["traceEvents"]
    }
    assert {"backward", "optimiser"} <= names


def test_a_profile_needs_some_steps(shards_root, tmp_path):
    with pytest.raises(DecurError, match="3 steps"):
        profile_steps(settings(epochs=1), shards_root, tmp_path, device="cpu")


def test_wandb_follows_the_tensorboard_where_a_project_is_named(shards_root, tmp_path, monkeypatch):
    calls = []
    module = types.ModuleType("wandb")
    module.init = lambda **given: calls.append(given) or module
    module.finish = lambda: calls.append("finish")
    monkeypatch.setitem(sys.modules, "wandb", module)
    train_run(settings(), shards_root, tmp_path / "without")
    assert calls == []
    monkeypatch.setenv("WANDB_PROJECT", "decur")
    train_until(3, settings(), shards_root, tmp_path / "run")
    train_run(settings(), shards_root, tmp_path / "run")
    first, end, again, _ = calls
    assert first["sync_tensorboard"]
    assert end == "finish"
    assert first == again  # one run, however often it is resumed
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DecurError, match="wandb is not installed"):
        train_run(settings(), shards_root, tmp_path / "another")
