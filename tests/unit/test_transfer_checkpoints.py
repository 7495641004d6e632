"""A transfer that is stopped or killed goes on from its checkpoint, and ends the same."""

import io
import json
import os
import signal

import numpy as np
import pytest
import torch

from decur.artifacts.paths import Cell
from decur.cluster.lock import Owner
from decur.cluster.signals import StoppedError
from decur.errors import DecurError
from decur.models import build_backbone
from decur.pretrain.loop import train_run
from decur.training.resume import Journal
from decur.transfer.run import transfer
from decur.transfer.steps import steps_ahead
from decur.transfer.train import train
from tests.support.lock import held_by
from tests.support.pretraining import settings as pretrain_settings
from tests.support.stopping import KilledError, at_call, count_looks, kill, result, warn
from tests.support.transfer import DroppingFCN, labelled, recipe, transfer_settings

STEP, EVALUATION = "decur.transfer.train.batch_loss", "decur.metrics.scores.Tally.add"
NEVER = 9999

ADAMW = {"optimizer": "adamw", "lr": 0.01, "epochs": 3}
SGD = {"optimizer": "sgd", "lr": 0.1, "epochs": 2, "schedule": "poly", "warm_up": 0.2}
CURVE = {"evaluate_every": 1}
SWEEP = {"lr_sweep": [0.1, 0.01], "epochs": 2}
CMX = {
    "crop": [32, 40],
    "scale_choices": [1.0, 1.5],
    "batch_size": 12,
    "sliding": {"window": [32, 32]},
    "recipe": {"optimizer": "adamw", "lr": 0.001, "epochs": 1},
}

TIMES = {"started": "2026-01-31T00:00:00+00:00", "seconds": 1000.0}

CASES = {
    "frozen features": ("linear", recipe(augment=False, linear=ADAMW | CURVE)),
    "frozen and augmented": ("linear", recipe(linear=SGD, predictions="all")),
    "frozen as released": ("linear", recipe(linear=ADAMW, frozen_mode="official")),
    "fine-tuned": ("fine-tune", recipe(fine_tune=SGD | CURVE, predictions=3)),
    "fine-tuned maps": ("fine-tune", recipe("segmentation", fine_tune=ADAMW, predictions=3)),
    "sweep of frozen features": ("linear", recipe(augment=False, linear=ADAMW | SWEEP)),
    "fine-tuned sweep": ("fine-tune", recipe(fine_tune=ADAMW | SWEEP)),
    "cmx": ("cmx", recipe("segmentation", cmx=CMX, predictions="all")),
}


@pytest.fixture
def job(shards_root, tmp_path, pairs):
    """Transfers one cell with a recipe, into a folder; gives what that wrote."""
    weights = {}

    def run(chosen, protocol, name, interval=NEVER):
        cmx = {"arch": "mit_tiny", "crop": 32} if protocol == "cmx" else {}
        base = pretrain_settings(epochs=1, **cmx)
        if protocol not in weights:
            weights[protocol] = train_run(base, shards_root, tmp_path / "run" / protocol)
        timed = chosen.model_copy(update={"checkpoint_seconds": interval})
        settings = transfer_settings(timed).model_copy(update={"pretrain": base})
        cell = Cell("pairs", "sar+optical", protocol)
        out = tmp_path / name
        run.folder = out / str(cell)
        transfer(settings, [cell], weights[protocol], shards_root.parent, out)
        return result(run.folder)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_transfer_killed_anywhere_again_and_again_ends_the_same(job, monkeypatch, case):
    """At steps and evaluations, up to two steps after the last checkpoint."""
    protocol, chosen = CASES[case]
    whole = job(chosen, protocol, "whole")
    kills = 0
    while True:
        with monkeypatch.context() as patch:
            count_looks(patch)
            at_call(patch, [STEP, EVALUATION], 3 + kills, kill)
            try:
                killed = job(chosen, protocol, "killed", interval=2)
                break
            except KilledError:
                kills += 1
                assert not (job.folder / "metrics.json").exists()
    assert kills > 2
    assert killed == whole
    assert not (job.folder / ".decur" / "checkpoints").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("place", [STEP, EVALUATION])
def test_a_transfer_asked_to_stop_saves_at_once_and_goes_on(
    job, monkeypatch, capsys, number, place
):
    monkeypatch.setattr("decur.transfer.data.BATCH", 8)
    protocol, chosen = CASES["fine-tuned"]
    whole = job(chosen, protocol, "whole")
    with monkeypatch.context() as patch:
        calls = at_call(patch, [STEP, EVALUATION], NEVER, kill)
        at_call(patch, [place], 2, lambda: os.kill(os.getpid(), number))
        with pytest.raises(StoppedError, match=f"stopped by {number.name}, and saved") as stopped:
            job(chosen, protocol, "stopped")
        assert stopped.value.warned == (number == signal.SIGUSR1)
        assert not (job.folder / ".decur" / "checkpoints" / "owner.json").exists()
        assert job(chosen, protocol, "stopped") == whole
    assert calls.count(STEP) == 2 * 4  # none twice
    assert "continuing from checkpoint 1" in capsys.readouterr().out


@pytest.mark.parametrize("frozen", ["eval", None])
def test_dropout_goes_on_where_it_was(shards_root, monkeypatch, frozen):
    head = {"optimizer": "sgd", "lr": 0.1, "epochs": 2}
    data = labelled(shards_root, recipe("segmentation", linear=head))

    def weights(journal):
        torch.manual_seed(0)
        model = DroppingFCN([build_backbone("tiny", c) for c in (2, 3)], 3)
        how = {"frozen": frozen, "seed": 0, "journal": journal}
        train(model, data, np.arange(24), data.settings.linear, **how)
        return model.state_dict()

    saved = io.BytesIO()
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        at_call(patch, [STEP], 3, kill)
        weights(Journal(lambda state: torch.save(state, rewound(saved)), interval=0))
    killed = weights(Journal(found=torch.load(rewound(saved), weights_only=True)))
    whole = weights(None)
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def rewound(file):
    file.seek(0)
    return file


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("augment", [False, True])
def test_prefetched_batches_are_those_read_one_by_one(shards_root, task, augment):
    scales = {"scale_choices": (0.5, 1.75)} if task == "segmentation" else {}
    data = labelled(shards_root, recipe(task, augment=augment, **scales))
    rows = np.random.default_rng(0).permutation(48).reshape(8, 6)

    def generator():
        return torch.Generator().manual_seed(1) if augment else None

    one_by_one = generator()
    for chosen, (step, take) in zip(rows, steps_ahead(data, rows, None, generator()), strict=True):
        xs, targets = data.inputs(chosen, one_by_one)
        ahead, same = take()
        assert torch.equal(targets, same)
        assert all(torch.equal(x, y) for x, (y,) in zip(xs, ahead, strict=True))
        assert one_by_one is None or torch.equal(one_by_one.get_state(), step.drawn)


def test_a_stopped_job_adds_to_its_time(job, monkeypatch):
    protocol, chosen = CASES["frozen features"]
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        at_call(patch, [STEP], 2, kill)
        patch.setattr("decur.artifacts.timing.JobTimer.times", lambda timer: TIMES)
        job(chosen, protocol, "killed", interval=0)
    job(chosen, protocol, "killed", interval=0)
    found = json.loads((job.folder / "metrics.json").read_text())["job"]
    assert found["started"] == TIMES["started"] and 1000 < found["seconds"] < 1100


def test_a_checkpoint_of_other_settings_is_not_continued(job, monkeypatch, capsys):
    protocol, chosen = CASES["frozen features"]
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        at_call(patch, [STEP], 5, kill)
        job(chosen, protocol, "killed", interval=0)
    other = recipe(augment=False, linear=ADAMW | CURVE | {"lr": 0.02})
    capsys.readouterr()
    killed = job(other, protocol, "killed")
    assert "belongs to other settings or data; not continued" in capsys.readouterr().out
    assert killed == job(other, protocol, "whole")
    assert not (job.folder / ".decur" / "checkpoints").exists()


def test_two_processes_do_not_evaluate_one_cell(job, tmp_path):
    protocol, chosen = CASES["frozen features"]
    cell = Cell("pairs", "sar+optical", protocol)
    claim = tmp_path / "out" / str(cell) / ".decur" / "checkpoints" / "owner.json"
    claim.parent.mkdir(parents=True)
    held_by(claim, Owner("elsewhere", 1, "5", "somebody"))
    with pytest.raises(DecurError, match="claimed by process 1 of somebody on elsewhere"):
        job(chosen, protocol, "out")
    assert claim.is_file()


@pytest.mark.slow
def test_all_cells_of_a_run_in_one_job_go_on_within_a_cell(
    shards_root, tmp_path, pairs, monkeypatch, capsys
):
    weights = train_run(pretrain_settings(epochs=1), shards_root, tmp_path / "run")
    chosen = recipe(linear=ADAMW, fine_tune=ADAMW, checkpoint_seconds=0)
    cells = [
        Cell("pairs", "sar", "linear"),
        Cell("pairs", "sar", "knn"),
        Cell("pairs", "sar+optical", "fine-tune"),
        Cell("pairs", "sar", "probe"),
    ]

    def run(name):
        places = (weights, shards_root.parent, tmp_path / name)
        transfer(transfer_settings(chosen), cells, *places, resume=True)
        return {str(cell): result(tmp_path / name / str(cell)) for cell in cells}

    whole = run("whole")
    for steps in (5, 12 + 7):  # in the first cell, and in the third
        with monkeypatch.context() as patch, pytest.raises(StoppedError):
            at_call(patch, [STEP], steps, warn)
            run("stopped")
        assert not (tmp_path / "stopped" / "cells.json").exists()
    capsys.readouterr()
    assert run("stopped") == whole
    assert (tmp_path / "stopped" / "cells.json").is_file()
    printed = capsys.readouterr().out
    assert printed.count("continuing from checkpoint") == 1 and "linear" not in printed
    assert not [*tmp_path.glob("stopped/**/checkpoints")]
