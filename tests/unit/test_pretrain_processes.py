"""Several processes pretrain what one does, however they are started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from decur import distributed
from decur.errors import DecurError
from decur.pretrain.loop import train_run
from tests.support.pretraining import log, settings

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
        train_run(chosen, shards_root, Path(out) / name)
    try:
        train_run(settings(batch_size=15), shards_root, Path(out) / "odd")
    except DecurError as error:
        (Path(out) / f"odd-{rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_what_one_does(shards_root, tmp_path):
    """The same views, whole-batch norms and losses: equal but for the order of float32
    sums, which AdamW's first steps amplify."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    arguments = (2, port, str(shards_root), str(tmp_path))
    torch.multiprocessing.spawn(share, arguments, nprocs=2)
    for name, chosen in SHARED.items():
        train_run(chosen, shards_root, tmp_path / "one" / name)
        alone, shared = log(tmp_path / "one" / name), log(tmp_path / name)
        assert [line["step"] for line in shared] == [line["step"] for line in alone]
        first, later = ([line["loss"] for line in lines] for lines in (alone, shared))
        np.testing.assert_allclose(later[:3], first[:3], rtol=0.05 if name == "bf16" else 1e-4)
        np.testing.assert_allclose(later, first, rtol=0.05 if name == "bf16" else 0.02)
    assert "15 cannot be divided among 2 processes" in (tmp_path / "odd-1").read_text()


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
    train_run(settings(optimizer="adamw", lr=0.001), shards_root, tmp_path / "one")
    one, two = ([line["loss"] for line in log(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two[:3], one[:3], rtol=1e-4)
    assert len(two) == len(one)
