"""Runs on the throw-away SLURM, and the faults that befall them."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from decur.cluster.lock import Owner, holder
from decur.weights import read_weights
from tests.support import HOME
from tests.support.slurm import HERE, output, profile, run, snakemake, wait_for

CONFIG = HERE / "faults.yaml"
INTERVAL = 10
"""Steps between two checkpoints of `faults.yaml`."""
SEEDS = range(5)


def small(folder: Path, **changes: object) -> Path:
    """A config in the folder with one run of `faults.yaml`, whose pretraining has the changes."""
    tree = yaml.safe_load(CONFIG.read_text()) | {"seeds": [0]}
    tree["scenarios"]["sar-optical"]["pretrain"] |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def loss_terms(log: Path) -> list[dict[str, float]]:
    """The loss terms of every step."""
    terms = ("loss", "intra1", "intra2", "common", "unique")
    return [{t: line[t] for t in terms} for line in map(json.loads, log.read_text().splitlines())]


def started_ranks(folder: Path, *, tasks: int, launch: str) -> list[dict[str, Any]]:
    """What the ranks of a pretraining choose on one node, where CUDA is pretended.

    They end once all have joined the process group.
    """
    pretended = folder / "pretended"
    pretended.mkdir()
    shutil.copy(HERE / "pretended_cuda.py", pretended / "sitecustomize.py")
    resources = {"nodes": 1, "gpu": tasks, "gpu_model": "a100", "tasks": tasks, "tasks_per_gpu": 1}
    node = profile(folder / "profile", **resources, mpi="srun", launch=launch)
    words = ("--profile", node, "--configfile", small(folder), "--retries", 0)
    words += ("--set-threads", "pretrain=1")
    path = os.pathsep.join([str(pretended), os.environ.get("PYTHONPATH", str(HOME))])
    run(folder / "run", *words, "--", "pretrain_all", env=os.environ | {"PYTHONPATH": path})
    found = [json.loads((pretended / f"rank-{rank}.json").read_text()) for rank in range(tasks)]
    assert len([*pretended.glob("rank-*.json")]) == tasks
    assert [rank["local_rank"] for rank in found] == [*range(tasks)]
    return found


class Workflow:
    """The runs of `faults.yaml` in a folder, and the Snakemake that has them done."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        self.results = folder / "results" / "faults"
        self.command = snakemake(folder, *arguments)

    def start(self) -> None:
        """Snakemake in the background; what it prints is appended to `snakemake.log`."""
        with (self.folder / "snakemake.log").open("ab") as log:
            self.snakemake = subprocess.Popen(self.command, stdout=log, stderr=log)

    def close(self) -> None:
        """The end of Snakemake, at once."""
        self.snakemake.kill()
        self.snakemake.wait()

    def path(self, seed: int) -> Path:
        return self.results / f"pretrain/sar-optical/decur/default/seed-{seed}"

    def steps(self, seed: int) -> int:
        """How many steps are logged."""
        log = self.path(seed) / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    def owner(self, seed: int) -> Owner | None:
        """The process that works on the run, and its SLURM job; None if none does."""
        return holder(self.path(seed) / "owner.json")

    def at_work(self) -> dict[int, Owner]:
        """Who works on which run."""
        owners = {seed: self.owner(seed) for seed in SEEDS}
        return {seed: owner for seed, owner in owners.items() if owner is not None}

    def training(self, seed: int) -> Owner:
        """Who works on the run, once that is well under way."""
        wait_for(lambda: self.steps(seed) > 3 * INTERVAL)
        return wait_for(lambda: self.owner(seed))

    def redone(self, seed: int, ended: Owner) -> int:
        """How many steps another does again when it goes on with the run, which is then held."""
        log = self.results / f"logs/pretrain/sar-optical/decur/default/seed-{seed}.log"
        most = self.steps(seed)

        def successor() -> Owner | None:
            nonlocal most
            owner = self.owner(seed)
            if owner in (None, ended):
                most = max(most, self.steps(seed))
                return None
            return owner

        job = str(wait_for(successor).slurm_job)
        resumed = wait_for(lambda: re.search(r"resuming at step (\d+)", log.read_text()))
        hold(job)
        return max(most - int(resumed[1]), 0)

    def weights(self, seed: int) -> dict[str, torch.Tensor]:
        return read_weights(self.path(seed) / "weights.safetensors")[0]

    def tables(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.results / "tables").iterdir()}


def state(job: str) -> str:
    return output("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job).strip()


def node(job: str) -> str:
    return output("squeue", "--noheader", "--format=%N", "--jobs", job).strip()


def hasten(job: str) -> None:
    """SLURM holds a requeued job for two minutes; this one need not wait.

    Two seconds it must: a node refuses to start a job that it has ended in the same second.
    """
    wait_for(lambda: state(job) == "PENDING")
    output("scontrol", "update", f"JobId={job}", "StartTime=now+2")


def kill(pattern: str) -> None:
    """SIGKILL for the latest process whose command has the pattern."""
    os.kill(int(output("pgrep", "--newest", "--full", pattern)), signal.SIGKILL)


def warn(job: str) -> None:
    output("scancel", "--signal=USR1", job)
    hasten(job)


def requeue(job: str) -> None:
    output("scontrol", "requeue", job)
    hasten(job)


def ranks(job: str) -> list[psutil.Process]:
    """The processes of a job that train."""
    found = psutil.process_iter(["cmdline", "environ"])
    training = [p for p in found if (p.info["cmdline"] or ())[2:4] == ["pretrain", "--requeue"]]
    return [p for p in training if (p.info["environ"] or {}).get("SLURM_JOB_ID") == job]


def hold(job: str) -> None:
    """The run stands still, so that it is not over before the next fault."""
    for rank in ranks(job):
        rank.suspend()


def let_go(job: str) -> None:
    for rank in ranks(job):
        rank.resume()


def kill_rank(job: str) -> None:
    ranks(job)[-1].kill()


def kill_batch_step(job: str) -> None:
    kill(f"job{int(job):05d}/slurm_script")


def warned(process: psutil.Process) -> bool:
    """Whether a process that is held has been sent SIGUSR1."""
    pending = re.findall(r"Pnd:\t(\w+)", Path(f"/proc/{process.pid}/status").read_text())
    return any(int(signals, 16) & 1 << signal.SIGUSR1 - 1 for signals in pending)


def run_out_of_time(job: str) -> None:
    """SLURM warns a minute before the limit, at its next look at the limits, half a minute apart.

    With less than a minute left, it would warn and kill at the same look.
    """
    hold(job)
    began = output("squeue", "--noheader", "--format=%S", "--jobs", job).strip()
    minutes = (datetime.now() - datetime.fromisoformat(began)) // timedelta(minutes=1)
    output("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes + 2}")
    wait_for(lambda: all(map(warned, ranks(job))))
    let_go(job)
    hasten(job)


def cut_power(node: str, folder: Path) -> None:
    """All that runs on a node is gone at once."""
    jobs = output("squeue", "--noheader", "--format=%i", "--nodelist", node).split()
    steps = tuple(f"slurmstepd: [{job}." for job in jobs)
    psutil.Process(int((folder / f"slurmd-{node}.pid").read_text())).kill()
    everything = [*psutil.process_iter(["cmdline", "environ"])]
    # What would still report to SLURM dies before what it watches.
    for process in everything:
        if " ".join(process.info["cmdline"] or ()).startswith(steps):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    for process in everything:
        if (process.info["environ"] or {}).get("SLURM_JOB_ID") in jobs:
            with suppress(psutil.NoSuchProcess):
                process.kill()


OF_ONE_RUN: dict[str, Callable[[str], None]] = {
    "`scancel --signal=USR1`": warn,
    "`scontrol requeue`": requeue,
    "`kill -9` of a rank": kill_rank,
    "`kill -9` of the batch step": kill_batch_step,
    "time limit": run_out_of_time,
}
