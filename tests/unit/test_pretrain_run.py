import io
import json
from pathlib import Path

import pytest
import torch
import yaml

from decur import cli
from decur.cluster.lock import Owner, this_process
from decur.cluster.signals import StoppedError
from decur.errors import DecurError
from decur.pretrain import run as launch
from decur.pretrain.loop import train_run
from decur.pretrain.run import pretrain
from decur.pretrain.submit import Allocation, _copy_from, _job, follow, submit_pretrain
from tests.support.lock import held_by
from tests.support.pretraining import settings, tensors

TINY = Path(__file__).parents[1] / "workflow" / "tiny.yaml"


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """A pretraining that is stopped at once, warned or not; what was asked of SLURM is returned."""

    def stop(warned):
        def train_run(*args, **kwargs):
            raise StoppedError("stopped", warned=warned)

        monkeypatch.setattr(launch, "train_run", train_run)
        monkeypatch.setattr("decur.cluster.requeue.PATIENCE", 0)

    return stop


@pytest.mark.parametrize(
    ("warned", "requeue", "job", "asked"),
    [
        (True, True, "7", "scontrol requeue 7\n"),
        (False, True, "7", None),  # cancelled, or pre-empted and requeued by SLURM itself
        (True, False, "7", None),
        (True, True, None, None),
    ],
)
def test_a_job_whose_time_runs_out_asks_to_be_run_again(
    cluster, stopped, monkeypatch, warned, requeue, job, asked
):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "DECUR_JOB"):
        monkeypatch.delenv(name, raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    stopped(warned)
    with pytest.raises(StoppedError):
        pretrain(settings(), cluster, cluster / "run", device="cpu", requeue=requeue)
    calls = cluster / "calls"
    assert (calls.read_text() if calls.exists() else None) == asked
    assert not (cluster / "run" / "owner.json").exists()


def test_two_processes_do_not_pretrain_one_run(shards_root, tmp_path):
    held_by(tmp_path / "owner.json", Owner("elsewhere", 1, "5", "somebody"))
    with pytest.raises(DecurError, match="process 1 of somebody on elsewhere"):
        pretrain(settings(), shards_root, tmp_path, device="cpu", requeue=False)


@pytest.mark.slow
def test_a_submitted_run_of_two_tasks_is_followed_to_the_weights_of_one(shards_root, tmp_path):
    allocation = Allocation("local", tasks=2, gpus=False, minutes=5)
    chosen = settings(optimizer="adamw", lr=0.001, epochs=2)
    job = submit_pretrain(chosen, shards_root, tmp_path / "two", allocation)
    printed = io.StringIO()
    follow(job, printed)
    assert "sar-optical decur" in printed.getvalue()
    train_run(chosen, shards_root, tmp_path / "one")
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_submitted_run_that_fails_says_why(tmp_path):
    allocation = Allocation("local", gpus=False, minutes=5)
    job = submit_pretrain(settings(), tmp_path / "nothing", tmp_path / "run", allocation)
    with pytest.raises(DecurError, match=r"job \d+ failed: .*preprocess"):
        follow(job, io.StringIO())


@pytest.mark.parametrize(("executor", "alone"), [("slurm", True), ("local", False)])
def test_a_submitted_job_is_alone_but_not_a_process_in_an_allocation(
    monkeypatch, tmp_path, executor, alone
):
    seen = []
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("DECUR_JOB", "")
    monkeypatch.setenv("DECUR_RESTARTS", "")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    monkeypatch.setattr(launch, "pretrain", lambda *args, **kw: seen.append(this_process()))
    threads = torch.get_num_threads()
    try:
        _job(settings().model_dump_json(), str(tmp_path), str(tmp_path))
    finally:
        torch.set_num_threads(threads)
    assert [owner.alone for owner in seen] == [alone]


def test_a_log_that_begins_anew_is_read_from_its_start(tmp_path):
    log, stream = tmp_path / "log", io.StringIO()
    assert _copy_from(log, 0, stream) == 0
    log.write_text("first\n")
    end = _copy_from(log, 0, stream)
    assert _copy_from(log, end, stream) == end
    log.write_text("2nd\n")
    _copy_from(log, end, stream)
    assert stream.getvalue() == "first\n2nd\n"


def test_the_command_finds_settings_and_folders_in_the_config(tmp_path, monkeypatch, capsys):
    config = yaml.safe_load(TINY.read_text())
    (tmp_path / "c.yaml").write_text(json.dumps(config | {"results": str(tmp_path)}))
    seen = []

    class Job:
        job_id = "12"
        paths = type("Paths", (), {"stdout": "log"})

    monkeypatch.setattr(
        "decur.pretrain.submit.submit_pretrain", lambda *args: seen.extend(args) or Job()
    )
    run = ["sar-optical/decur/default/seed-0", "--configfile", str(tmp_path / "c.yaml")]
    assert cli.main(["submit", "pretrain", *run, "--option", "qos=long", "--no-follow"]) == 0
    chosen, shards, out, allocation = seen
    assert (chosen.method, allocation.options) == ("decur", {"qos": "long"})
    assert str(shards) == f"{tmp_path}/tiny/shards/ssl4eo-s12"
    assert str(out) == f"{tmp_path}/tiny/pretrain/{run[0]}"
    assert cli.main(["submit", "pretrain", *run, "--option", "qos"]) == 1
    assert "expected key=value" in capsys.readouterr().err
