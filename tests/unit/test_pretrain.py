import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from decur import distributed
from decur.artifacts.provenance import fingerprint
from decur.cli import main
from decur.config import apply_variant
from decur.errors import DecurError
from decur.losses.decur import decur_loss
from decur.models.two_branch import CONTRASTIVE_DIMS, TwoBranch
from decur.pretrain import loop as pretrain_module
from decur.pretrain.checkpoint import load_checkpoint, save_checkpoint
from decur.pretrain.loop import prepare, pretrain, training_step
from decur.pretrain.step_profile import profile_steps
from decur.shards import PairedShards
from decur.training.methods import METHODS, build_model, count_views, dims_common
from decur.training.views import batches, read_batch
from decur.weights import branch_weights, load_backbone, read_weights
from tests.support.pretraining import draw_views, log, settings, tensors


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_resumed_equals_uninterrupted_bit_for_bit(
    shards_root, tmp_path, monkeypatch, optimizer, stop
):
    """A run killed at any step, its last checkpoint of some steps before, ends the same."""
    chosen = settings(optimizer=optimizer)
    pretrain(chosen, shards_root, tmp_path / "whole")

    def read_until_stopped(shards, rows, settings, step, *rest):
        if step == stop:
            raise StoppedError
        return read_batch(shards, rows, settings, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(pretrain_module, "read_batch", read_until_stopped)
        pretrain(chosen, shards_root, tmp_path / "resumed")
    pretrain(chosen, shards_root, tmp_path / "resumed")

    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert log(tmp_path / "whole") == log(tmp_path / "resumed")
    assert len(log(tmp_path / "whole")) == 2 * (48 // 16)


OTHERWISE = {
    "checkpoint_steps": 1,
    "monitor_steps": 1,
    "recompute": "block",
    "cuda_graph": True,
    "knn": {"labels": "mask", "neighbours": 3},
}
"""Every kind of setting that decides how a run goes, and not where to."""


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_a_run_that_goes_on_in_another_way_ends_the_same(
    shards_root, tmp_path, monkeypatch, capsys, optimizer
):
    plain, otherwise = (settings(optimizer=optimizer, **more) for more in ({}, OTHERWISE))
    whole = pretrain(plain, shards_root, tmp_path / "whole")

    def read_until_stopped(shards, rows, settings, step, *rest):
        if step == 3:
            raise StoppedError
        return read_batch(shards, rows, settings, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(pretrain_module, "read_batch", read_until_stopped)
        pretrain(plain, shards_root, tmp_path / "resumed")
    made = []
    build = pretrain_module.build_optimizer
    monkeypatch.setattr(
        pretrain_module, "build_optimizer", lambda *a, **k: made.append(build(*a, **k)) or made[-1]
    )
    resumed = pretrain(otherwise, shards_root, tmp_path / "resumed")
    assert "resuming at step" in capsys.readouterr().out
    assert [group.get("capturable", True) for group in made[0].param_groups] == [True, True]
    before, after = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert fingerprint(whole) == fingerprint(resumed)
    recorded = read_weights(resumed)[1]["provenance"]["settings"]
    assert recorded["recompute"] == "block" and recorded["checkpoint_steps"] == 1
    other = pretrain(settings(optimizer=optimizer, lr=0.1), shards_root, tmp_path / "other")
    assert fingerprint(whole) != fingerprint(other)


def test_a_checkpoint_of_other_settings_is_not_continued(shards_root, tmp_path, capsys):
    pretrain(settings(), shards_root, tmp_path / "run")
    pretrain(settings(seed=2), shards_root, tmp_path / "run")
    assert "not continued" in capsys.readouterr().out
    pretrain(settings(seed=2), shards_root, tmp_path / "fresh")
    fresh, run = tensors(tmp_path / "fresh"), tensors(tmp_path / "run")
    assert all(torch.equal(fresh[name], run[name]) for name in fresh)


def test_a_resumed_run_adds_to_its_time(shards_root, tmp_path):
    pretrain(settings(), shards_root, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        state["times"] = {"started": "2026-01-31T00:00:00+00:00", "seconds": 1000.0}
        torch.save(state, path)
    _, metadata = read_weights(pretrain(settings(), shards_root, tmp_path))
    assert metadata["job"]["started"] == "2026-01-31T00:00:00+00:00"
    assert 1000 < metadata["job"]["seconds"] < 1100


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (1, 2, 3):
        path = save_checkpoint(tmp_path, step, {"identity": "a", "step": step})
    assert len(list(tmp_path.iterdir())) == 2
    path.write_bytes(path.read_bytes()[:100])
    assert load_checkpoint(tmp_path, "a")["step"] == 2
    assert load_checkpoint(tmp_path, "b") is None
    assert load_checkpoint(tmp_path / "none", "a") is None


def test_the_log_watches_alignment_and_collapse(shards_root, tmp_path):
    pretrain(settings(monitor_steps=2), shards_root, tmp_path)
    lines = log(tmp_path)
    for line in lines:
        assert {"loss", "intra1", "intra2", "common", "unique", "lr0", "lr1"} <= line.keys()
        watched = {"align_common", "align_unique", "align_intra1", "std1", "rank1", "std2", "rank2"}
        assert (watched <= line.keys()) == (line["step"] % 2 == 0)
    assert 1 < lines[0]["rank1"] <= 15


def test_training_learns(shards_root, tmp_path):
    pretrain(settings(epochs=12, optimizer="adamw", lr=0.003), shards_root, tmp_path)
    losses = [line["loss"] for line in log(tmp_path)]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.parametrize("method", ["random", "supervised"])
def test_methods_that_pretrain_nothing_write_the_seeded_initialisation(
    shards_root, tmp_path, method
):
    pretrain(settings(method=method), shards_root, tmp_path)
    assert not (tmp_path / "checkpoints").exists()
    model = build_model(settings(method=method), PairedShards(shards_root))
    written = tensors(tmp_path)
    assert all(torch.equal(p, written[name]) for name, p in model.named_parameters())


def test_untrained_backbones_normalise_their_features(shards_root, tmp_path):
    weights = pretrain(settings(method="random"), shards_root, tmp_path)
    backbone = load_backbone(branch_weights(read_weights(weights)[0], 0), arch="tiny", in_chans=2)
    shards, rows = PairedShards(shards_root), np.arange(48)
    views = draw_views(shards, rows, settings(), 99, 1)
    first = backbone.eval().stage1[:2](views[0][0])
    torch.testing.assert_close(first.mean((0, 2, 3)), torch.zeros(16), atol=0.3, rtol=0)
    torch.testing.assert_close(first.std((0, 2, 3)), torch.ones(16), atol=0.3, rtol=0)


def test_every_epoch_shows_each_sample_once_in_a_new_order():
    rows = np.arange(100, 130)
    seen = list(batches(rows, settings(batch_size=10, epochs=2), 0))
    assert [step for step, _ in seen] == list(range(6))
    first, second = (np.concatenate([b for _, b in seen[i : i + 3]]) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(rows)
    assert list(first) != list(second)
    later = list(batches(rows, settings(batch_size=10, epochs=2), 4))
    assert [s for s, _ in later] == [4, 5]
    np.testing.assert_array_equal(later[0][1], seen[4][1])


def test_views_of_a_pair_are_drawn_apart_and_repeat_with_the_step(shards_root):
    shards, rows = PairedShards(shards_root), np.arange(16)

    def views(step):
        return draw_views(shards, rows, settings(), step, 2)

    (sar1, sar2), (optical1, _) = views(3)
    assert sar1.shape == (16, 2, 16, 16)
    assert optical1.shape == (16, 3, 16, 16)
    assert not torch.equal(sar1, sar2)
    assert torch.equal(sar1, views(3)[0][0])
    assert not torch.equal(sar1, views(4)[0][0])


def test_without_intra_terms_one_view_is_enough():
    z = [[torch.randn(8, 6)], [torch.randn(8, 6)]]
    model = TwoBranch("tiny", [2, 3], dim=6, layers=2)
    terms = METHODS["decur"].loss(z, settings(intra=False, dim=6, dim_common=4), model)
    expected = decur_loss(z[0][0], z[0][0], z[1][0], z[1][0], dim_common=4, intra=False)
    torch.testing.assert_close(terms["loss"], expected["loss"])


def test_without_a_projector_the_share_of_common_dimensions_is_kept():
    assert dims_common(settings(projector_layers=0), 192) == 144


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
        pretrain(settings(**changes), shards_root, tmp_path / "out")
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_backbones_load_back_and_mismatches_are_named(shards_root, tmp_path):
    weights = pretrain(settings(method="random"), shards_root, tmp_path)
    loaded, metadata = read_weights(weights)
    assert metadata["bands"]["sar"] == ["VV", "VH"]
    assert metadata["provenance"]["settings"]["seed"] == 1
    sar = branch_weights(loaded, 0)
    backbone = load_backbone(sar, arch="tiny", in_chans=2)
    assert torch.equal(backbone.state_dict()["stage1.0.weight"], sar["stage1.0.weight"])
    with pytest.raises(DecurError, match=r"'stage1\.0\.weight' is \(16, 2, 3, 3\), tiny with 13"):
        load_backbone(sar, arch="tiny", in_chans=13)
    with pytest.raises(DecurError, match=r"'conv1\.weight' of resnet18 is missing"):
        load_backbone(sar, arch="resnet18", in_chans=2)
    with pytest.raises(DecurError, match="is not part of tiny"):
        load_backbone({**sar, "head": torch.zeros(1)}, arch="tiny", in_chans=2)
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:500])
    with pytest.raises(DecurError, match=r"cut\.safetensors: not a readable weights file"):
        read_weights(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("preset", ["default", "official"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_pretrains_both_backbones(shards_root, tmp_path, method, preset):
    chosen = apply_variant(settings(method=method, optimizer="adamw", lr=0.003), preset)
    weights = pretrain(chosen, shards_root, tmp_path)
    before = build_model(chosen, PairedShards(shards_root)).state_dict()
    after, _ = read_weights(weights)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"backbones.0.stage1.0.weight", "backbones.1.stage1.0.weight"} <= moved
    assert ("log_scale" in moved) == (method == "clip" and preset == "default")


def test_single_modal_barlow_twins_trains_each_modality_as_if_alone(shards_root):
    """The gradient of one branch does not depend on the other branch's images."""
    chosen = settings(method="barlow-twins-single")
    shards, rows = PairedShards(shards_root), np.arange(16)
    views = draw_views(shards, rows, chosen, 0, 2)

    def gradient(views):
        model = build_model(chosen, shards)
        METHODS[chosen.method].loss(model(views), chosen, model)["loss"].backward()
        return [p.grad for p in model.backbones[0].parameters()]

    other = [views[0], [view.flip(0) * 0.5 for view in views[1]]]
    torch.testing.assert_close(gradient(views), gradient(other), rtol=0, atol=0)


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    shards_root, tmp_path, monkeypatch, number
):
    chosen = settings(checkpoint_steps=1000)
    pretrain(chosen, shards_root, tmp_path / "whole")
    calls = []

    def step_and_signal(*arguments):
        calls.append(0)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return training_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain_module, "training_step", step_and_signal)
        message = rf"stopped by {number.name} after step 1, and saved"
        with pytest.raises(DecurError, match=message):
            pretrain(chosen, shards_root, tmp_path / "resumed")
    pretrain(chosen, shards_root, tmp_path / "resumed")
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert log(tmp_path / "whole") == log(tmp_path / "resumed")


SHARED = {
    "decur": settings(optimizer="adamw", lr=0.001),
    "clip": settings(method="clip", optimizer="adamw", lr=0.001),
    "bf16": settings(precision="bf16", optimizer="adamw", lr=0.001),
}


def share(rank, world, port, shards_root, out):
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(address, RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    distributed.init_process_group()
    for name, chosen in SHARED.items():
        pretrain(chosen, shards_root, Path(out) / name)
    try:
        pretrain(settings(batch_size=15), shards_root, Path(out) / "odd")
    except DecurError as error:
        (Path(out) / f"odd-{rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


def test_two_processes_train_what_one_does(shards_root, tmp_path):
    """The same views, whole-batch norms and losses: equal but for the order of float32
    sums, which AdamW's first steps amplify."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    arguments = (2, port, str(shards_root), str(tmp_path))
    torch.multiprocessing.spawn(share, arguments, nprocs=2)
    for name, chosen in SHARED.items():
        pretrain(chosen, shards_root, tmp_path / "one" / name)
        alone, shared = log(tmp_path / "one" / name), log(tmp_path / name)
        assert [line["step"] for line in shared] == [line["step"] for line in alone]
        first, later = ([line["loss"] for line in lines] for lines in (alone, shared))
        np.testing.assert_allclose(later[:3], first[:3], rtol=0.05 if name == "bf16" else 1e-4)
        np.testing.assert_allclose(later, first, rtol=0.05 if name == "bf16" else 0.02)
    assert "15 cannot be shared by 2 processes" in (tmp_path / "odd-1").read_text()


def started_by_torchrun(command):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return [subprocess.Popen([*launch, "2", *command])]


def started_by_srun(command):
    """What two tasks of one node find in their environment under `srun -n 2`."""
    step = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1"}
    step |= {"SLURM_NODEID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}
    tasks = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    return [
        subprocess.Popen([sys.executable, *command], env={**os.environ, **step, **task})
        for task in tasks
    ]


def started_by_submitit(command):
    step = {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": "7"}
    step |= {"SUBMITIT_LOCAL_NTASKS": "2"}
    tasks = [{f"SUBMITIT_LOCAL_{k}": str(i) for k in ("GLOBALID", "LOCALID")} for i in range(2)]
    return [
        subprocess.Popen([sys.executable, *command], env={**os.environ, **step, **task})
        for task in tasks
    ]


@pytest.mark.slow
@pytest.mark.parametrize("start", [started_by_torchrun, started_by_srun, started_by_submitit])
def test_a_launcher_starts_one_run_of_two_processes(shards_root, tmp_path, start):
    """Not two runs beside one another: half the batch each, one log, one set of weights."""
    text = settings(optimizer="adamw", lr=0.001).model_dump_json()
    command = ["-m", "decur", "pretrain", "--settings", text, "--shards", str(shards_root)]
    for process in start([*command, "--out", str(tmp_path / "two")]):
        assert process.wait(timeout=300) == 0
    pretrain(settings(optimizer="adamw", lr=0.001), shards_root, tmp_path / "one")
    one, two = ([line["loss"] for line in log(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two[:3], one[:3], rtol=1e-4)
    assert len(two) == len(one)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_the_same_losses(shards_root, tmp_path):
    for name in ("plain", "compiled"):
        chosen = settings(compile="all" if name == "compiled" else "none")
        pretrain(chosen, shards_root, tmp_path / name)
    plain, compiled = (
        [line["loss"] for line in log(tmp_path / name)] for name in ("plain", "compiled")
    )
    np.testing.assert_allclose(compiled[:3], plain[:3], rtol=1e-4)


def test_without_intra_modal_terms_only_decur_draws_one_view():
    assert count_views(settings(intra=False)) == 1
    assert count_views(settings(method="barlow-twins-single", intra=False)) == 2


def test_contrastive_methods_have_their_own_projector(shards_root):
    shards = PairedShards(shards_root)
    model = build_model(settings(method="simclr", projector="shared"), shards)
    assert model.embedding_dim == CONTRASTIVE_DIMS[-1]
    assert len(model.projectors) == 2
    assert all(p.ndim != 2 or p.shape[0] in CONTRASTIVE_DIMS for p in model.projectors.parameters())


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
            terms = METHODS["decur"].loss(model(part), chosen, model)
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
    with pytest.raises(
        ValueError, match=r"batch_size \(16\) must be a multiple of accumulate_chunks"
    ):
        settings(accumulate_chunks=3)


@pytest.mark.parametrize(
    ("changes", "lr_1d"),
    [
        ({"optimizer": "lars"}, 0.0012),
        ({"optimizer": "lars", "method": "barlow-twins"}, 0.0012),
        ({"optimizer": "lars", "method": "vicreg"}, 0.0048),
        ({"optimizer": "adamw"}, 0.0048),
    ],
)
def test_official_loses_the_gradient_that_the_released_code_loses(changes, lr_1d):
    assert apply_variant(settings(**changes), "official").lr_1d == pytest.approx(lr_1d)


def test_official_widens_the_features_of_mix_transformers(shards_root):
    shards = PairedShards(shards_root)
    chosen = apply_variant(settings(arch="mit_b0"), "official")
    model = build_model(chosen, shards)
    assert [head.weight.shape for head in model.heads] == [(2048, 256)] * 2
    assert model.projectors[0][0].in_features == 2048
    assert not list(build_model(settings(arch="mit_b0"), shards).heads.parameters())


def test_vicreg_as_released_needs_rows_on_each_of_its_ranks(shards_root, tmp_path):
    chosen = apply_variant(settings(method="vicreg", batch_size=4), "official")
    with pytest.raises(DecurError, match="needs a batch of more than 4"):
        pretrain(chosen, shards_root, tmp_path)


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
    with pytest.raises(DecurError, match="needs more than 3 steps, the run has 3"):
        profile_steps(settings(epochs=1), shards_root, tmp_path, device="cpu")


def test_wandb_follows_the_tensorboard_where_a_project_is_named(shards_root, tmp_path, monkeypatch):
    calls = []
    module = types.ModuleType("wandb")
    module.init = lambda **given: calls.append(given) or module
    module.finish = lambda: calls.append("finish")
    monkeypatch.setitem(sys.modules, "wandb", module)
    pretrain(settings(), shards_root, tmp_path / "without")
    assert calls == []
    monkeypatch.setenv("WANDB_PROJECT", "decur")
    for _ in range(2):
        pretrain(settings(), shards_root, tmp_path / "run")
    first, end, again, _ = calls
    assert first["sync_tensorboard"]
    assert end == "finish"
    assert first == again  # one run, however often it is resumed
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(DecurError, match="wandb is not installed"):
        pretrain(settings(), shards_root, tmp_path / "run")
