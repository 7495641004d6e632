"""An interrupted pretraining goes on from its checkpoint, and ends as an uninterrupted one."""

import os
import signal

import pytest
import torch

from decur.artifacts.provenance import fingerprint
from decur.errors import DecurError
from decur.pretrain import loop as pretrain_module
from decur.pretrain.loop import train_run, training_step
from decur.training.checkpoint import load_checkpoint, save_checkpoint
from decur.weights import read_weights
from tests.support.pretraining import log, settings, tensors, train_until


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_resumed_equals_uninterrupted_bit_for_bit(shards_root, tmp_path, optimizer, stop):
    """A run killed at any step, its last checkpoint of some steps before, ends the same."""
    chosen = settings(optimizer=optimizer)
    train_run(chosen, shards_root, tmp_path / "whole")
    train_until(stop, chosen, shards_root, tmp_path / "resumed")
    train_run(chosen, shards_root, tmp_path / "resumed")

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


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_a_run_that_goes_on_in_another_way_ends_the_same(
    shards_root, tmp_path, monkeypatch, capsys, optimizer
):
    plain, otherwise = (settings(optimizer=optimizer, **more) for more in ({}, OTHERWISE))
    whole = train_run(plain, shards_root, tmp_path / "whole")
    train_until(3, plain, shards_root, tmp_path / "resumed")
    made = []
    build = pretrain_module.optimizer_of
    monkeypatch.setattr(
        pretrain_module, "optimizer_of", lambda *a, **k: made.append(build(*a, **k)) or made[-1]
    )
    resumed = train_run(otherwise, shards_root, tmp_path / "resumed")
    assert "resuming at step" in capsys.readouterr().out
    assert [group.get("capturable", True) for group in made[0].param_groups] == [True, True]
    before, after = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert fingerprint(whole) == fingerprint(resumed)
    recorded = read_weights(resumed)[1].provenance.settings
    assert recorded["recompute"] == "block" and recorded["checkpoint_steps"] == 1
    other = train_run(settings(optimizer=optimizer, lr=0.1), shards_root, tmp_path / "other")
    assert fingerprint(whole) != fingerprint(other)


def test_a_checkpoint_of_other_settings_is_not_continued(shards_root, tmp_path, capsys):
    train_until(5, settings(), shards_root, tmp_path / "run")
    train_run(settings(seed=2), shards_root, tmp_path / "run")
    assert "not continued" in capsys.readouterr().out
    train_run(settings(seed=2), shards_root, tmp_path / "fresh")
    fresh, run = tensors(tmp_path / "fresh"), tensors(tmp_path / "run")
    assert all(torch.equal(fresh[name], run[name]) for name in fresh)


def test_a_resumed_run_adds_to_its_time(shards_root, tmp_path):
    train_until(5, settings(), shards_root, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        state["times"] = {"started": "2026-01-31T00:00:00+00:00", "seconds": 1000.0}
        torch.save(state, path)
    _, metadata = read_weights(train_run(settings(), shards_root, tmp_path))
    assert metadata.job.started == "2026-01-31T00:00:00+00:00"
    assert 1000 < metadata.job.seconds < 1100


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (1, 2, 3):
        path = save_checkpoint(tmp_path, step, {"identity": "a", "step": step})
    assert len(list(tmp_path.iterdir())) == 2
    path.write_bytes(path.read_bytes()[:100])
    assert load_checkpoint(tmp_path, "a")["step"] == 2
    assert load_checkpoint(tmp_path, "b") is None
    assert load_checkpoint(tmp_path / "none", "a") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    shards_root, tmp_path, monkeypatch, number
):
    chosen = settings(checkpoint_steps=1000)
    train_run(chosen, shards_root, tmp_path / "whole")
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
            train_run(chosen, shards_root, tmp_path / "resumed")
    train_run(chosen, shards_root, tmp_path / "resumed")
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert log(tmp_path / "whole") == log(tmp_path / "resumed")
