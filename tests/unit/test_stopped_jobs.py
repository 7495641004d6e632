"""Commands of transfer and explain as processes: killed, warned, requeued."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from decur.artifacts.paths import Cell
from decur.cli import main
from decur.cluster.signals import stop_request
from decur.pretrain.loop import train_run
from decur.shards import ShardWriter
from tests.support.explaining import explain_settings
from tests.support.pretraining import settings as pretrain_settings
from tests.support.samples import MODALITIES, random_sample
from tests.support.stopping import at_call, result, warn
from tests.support.transfer import recipe, transfer_settings

CELL = Cell("pairs", "sar+optical", "fine-tune")
HEAD = {"optimizer": "adamw", "lr": 0.01, "epochs": 10, "evaluate_every": 5}
STEPS = 10 * 4
SETTINGS = transfer_settings(recipe(fine_tune=HEAD, predictions="all", checkpoint_seconds=0))


@pytest.fixture
def places(tmp_path) -> list[str]:
    """Arguments of weights and shards, whose card says what a process cannot be told here."""
    root = tmp_path / "shards" / "pairs"
    card = {"dataset": "pairs", "title": "Pairs", "licence": "none", "homepage": "none"}
    with ShardWriter(root, MODALITIES, card | {"classes": ["a", "b", "c"], "ignore": None}) as file:
        for i in range(72):
            file.add(random_sample(i, "train" if i < 48 else "test"))
    weights = train_run(pretrain_settings(epochs=1), root, tmp_path / "run")
    return ["--weights", str(weights), "--shards", str(root.parent)]


def transfer(out: Path, places: Sequence[str]) -> list[str]:
    settings = SETTINGS.model_dump_json()
    return ["transfer", str(CELL), "--settings", settings, "--out", str(out), *places]


def newest(folder: Path) -> int:
    """The number of the last checkpoint."""
    found = [int(p.stem.rpartition("-")[2]) for p in folder.glob("checkpoint-*.pt")]
    return max(found, default=0)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_transfer_killed_at_random_steps_has_the_metrics_of_one_that_was_not(
    tmp_path, places, kills
):
    """The process, by `kill -9`, at any instruction of a step, of an evaluation, of a save."""
    assert main(transfer(tmp_path / "whole", places)) == 0
    checkpoints = tmp_path / "killed" / str(CELL) / ".decur" / "checkpoints"
    command = [sys.executable, "-m", "decur", *transfer(tmp_path / "killed", places)]
    draw = random.Random(kills)
    for step in sorted(draw.sample(range(1, STEPS - 5), kills)):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as job:
            while newest(checkpoints) < step:
                assert job.poll() is None
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.03))
            job.kill()
    assert not (tmp_path / "killed" / str(CELL) / "metrics.json").exists()
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    assert result(tmp_path / "killed" / str(CELL)) == result(tmp_path / "whole" / str(CELL))


@pytest.fixture
def slurm(cluster, monkeypatch) -> Path:
    """Within a SLURM job; the file of what SLURM is asked for."""
    for name in ("SLURM_ARRAY_JOB_ID", "DECUR_JOB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("decur.cluster.requeue.PATIENCE", 0)
    return cluster / "calls"


def commands(tmp_path: Path, places: list[str]) -> dict[str, tuple[list[str], str]]:
    """The command of each stage, and a function that it calls often."""
    settings = explain_settings("tsne", pretrain_settings(epochs=1)).model_dump_json()
    out = ["--settings", settings, "--out", str(tmp_path / "out" / "tsne.csv")]
    shards = [*places[:-1], f"{places[-1]}/pairs"]
    return {
        "transfer": (transfer(tmp_path / "out", places), "decur.transfer.train.batch_loss"),
        "explain": (["explain", "tsne", *out, *shards], "decur.explain.tsne.map_dimensions"),
    }


@pytest.mark.parametrize("stage", ["transfer", "explain"])
def test_a_warned_job_saves_and_asks_to_be_run_again(
    tmp_path, places, slurm, monkeypatch, capsys, stage
):
    command, place = commands(tmp_path, places)[stage]
    with monkeypatch.context() as patch:
        at_call(patch, [place], 1, warn)
        assert main([*command, "--requeue"]) == 1
    told = capsys.readouterr()
    assert "stopped by SIGUSR1, and saved; run again to continue" in told.err
    assert "SLURM job 7 is requeued" in told.out
    assert slurm.read_text() == "scontrol requeue 7\n"
    assert main([*command, "--requeue"]) == 0
    assert "continuing from checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["transfer", "explain"])
def test_a_job_that_is_not_warned_or_may_not_is_not_requeued(
    tmp_path, places, slurm, monkeypatch, stage
):
    ends = {"": warn, "--requeue": lambda: os.kill(os.getpid(), signal.SIGTERM)}
    for option, end in ends.items():
        command, place = commands(tmp_path / f"out{option}", places)[stage]
        with monkeypatch.context() as patch:
            at_call(patch, [place], 1, end)
            assert main([*command, *option.split()]) == 1
    assert not slurm.exists()


@pytest.mark.parametrize("stage", ["transfer", "explain"])
def test_a_warning_before_the_stage_is_loaded_is_not_lost(tmp_path, places, capsys, stage):
    command, _ = commands(tmp_path, places)[stage]
    with stop_request():
        warn()
        assert main(command) == 1
    assert "stopped by SIGUSR1, and saved" in capsys.readouterr().err
