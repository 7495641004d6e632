"""The workflow on a real SLURM of two nodes with pretend GPUs, and every fault that befalls there.

One file, since its tests share the cluster and a file's tests run in one process.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from decur.claim import Owner, holder
from decur.weights import read_weights
from tests.slurm.conftest import HERE, HOME, PROFILE, output, profile, run, snakemake, wait_for

CONFIG = HERE / "faults.yaml"
INTERVAL = 10
"""Steps between two checkpoints of `faults.yaml`."""
SEEDS = range(5)
TINY = HERE.parent / "workflow" / "tiny.yaml"
RUN = "results/tiny/pretrain/sar-optical/decur/default/seed-0"

pytestmark = pytest.mark.slurm


def loss_terms(log: Path) -> list[dict[str, float]]:
    """The loss terms of every step."""
    terms = ("loss", "intra1", "intra2", "common", "unique")
    return [{t: line[t] for t in terms} for line in map(json.loads, log.read_text().splitlines())]


def test_two_nodes_train_what_one_process_does(cluster: Path, tmp_path: Path) -> None:
    """And a job has the cores that it asks for, were they more than this machine's.

    With small steps, since what comes of the order of float32 sums, which differs, grows with them.
    """
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["sar-optical"]["pretrain"] |= {"lr": 1e-5, "lr_1d": 1e-5}
    config = tmp_path / "small-steps.yaml"
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    nodes, alone = tmp_path / "nodes", tmp_path / "alone"
    for folder in (nodes, alone):
        folder.mkdir()
    target = ("--configfile", config, "--", f"{RUN}/weights.safetensors")
    printed = run(nodes, "--profile", PROFILE, "--set-threads", "pretrain=3", *target)
    assert "threads: 3" in printed
    run(alone, "--cores", 2, *target)
    two, one = (loss_terms(folder / RUN / "log.jsonl") for folder in (nodes, alone))
    assert len(two) == 24
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_the_demo_runs_through_slurm(cluster: Path, tmp_path: Path) -> None:
    run(tmp_path, "--profile", PROFILE, "--configfile", HOME / "config" / "demo.yaml")
    tables = {p.stem: p.read_text() for p in (tmp_path / "results/demo/tables").glob("*.md")}
    assert tables.keys() >= {"table1", "table2", "table3", "factors"}
    assert not any("Incomplete" in text for text in tables.values())


class Workflow:
    """The runs of `faults.yaml` in a folder, and the Snakemake that has them done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results" / "faults"
        folder.mkdir(exist_ok=True)
        one_task = profile(folder / "profile")
        self.arguments = ("--profile", one_task, "--configfile", CONFIG, "--retries", 4)

    def start(self) -> "subprocess.Popen[bytes]":
        """Snakemake in the background; what it prints is appended to `snakemake.log`."""
        with (self.folder / "snakemake.log").open("ab") as log:
            return subprocess.Popen(snakemake(self.folder, *self.arguments), stdout=log, stderr=log)

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
    """SLURM holds a requeued job for two minutes; this one need not wait."""
    wait_for(lambda: state(job) == "PENDING")
    output("scontrol", "update", f"JobId={job}", "StartTime=now")


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


def run_out_of_time(job: str) -> None:
    """SLURM warns a minute before the limit; it looks at the limits now and then."""
    output("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    hold(job)
    time.sleep(25)
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


@pytest.mark.slow
def test_every_fault_ends_in_the_same_tables(cluster: Path, tmp_path: Path) -> None:
    undisturbed = Workflow(tmp_path / "undisturbed")
    alone = ("--configfile", CONFIG, "--cores", 2)
    run(undisturbed.folder, *alone, "--", "preprocess_all")
    shutil.copytree(undisturbed.folder, tmp_path / "disturbed")
    disturbed = Workflow(tmp_path / "disturbed")
    run(undisturbed.folder, *alone)
    outside = disturbed.start()

    def befall(fault: str, seed: int) -> int:
        owner = disturbed.training(seed)
        OF_ONE_RUN[fault](str(owner.slurm_job))
        return disturbed.redone(seed, owner)

    with ThreadPoolExecutor() as pool:
        redone = dict(zip(OF_ONE_RUN, pool.map(befall, OF_ONE_RUN, SEEDS), strict=True))

        owners = disturbed.at_work()
        urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null")
        output("sbatch", *urgent, "--wrap=sleep 1")
        for owner in owners.values():
            hasten(str(owner.slurm_job))
        redone["pre-emption"] = max(pool.map(disturbed.redone, owners, owners.values()))

        owners = disturbed.at_work()
        lost = node(str(owners[0].slurm_job))
        owners = {seed: o for seed, o in owners.items() if node(str(o.slurm_job)) == lost}
        cut_power(lost, cluster)
        for owner in owners.values():
            hasten(str(owner.slurm_job))
        subprocess.run(["setsid", "slurmd", "-N", lost], check=True)
        redone["a node lost"] = max(pool.map(disturbed.redone, owners, owners.values()))

        owners = disturbed.at_work()
        assert owners.keys() == set(SEEDS)
        outside.kill()
        outside.wait()
        words = snakemake(disturbed.folder, *disturbed.arguments)
        refused = subprocess.run(words, capture_output=True, text=True)
        assert refused.returncode != 0
        assert "was left by" in refused.stderr
        run(disturbed.folder, "--configfile", CONFIG, "--cores", 1, "--unlock")
        outside = disturbed.start()
        redone["`kill -9` of Snakemake"] = max(pool.map(disturbed.redone, owners, owners.values()))

    for owner in disturbed.at_work().values():
        let_go(str(owner.slurm_job))
    assert outside.wait(timeout=900) == 0
    print(redone)
    assert all(steps <= INTERVAL for steps in redone.values()), redone
    for seed in SEEDS:
        ours, theirs = disturbed.weights(seed), undisturbed.weights(seed)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert disturbed.tables() == undisturbed.tables()


def small(folder: Path, **changes: object) -> Path:
    """A config in the folder with one run of `faults.yaml`, whose pretraining has the changes."""
    tree = yaml.safe_load(CONFIG.read_text()) | {"seeds": [0]}
    tree["scenarios"]["sar-optical"]["pretrain"] |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


@pytest.mark.slow
def test_a_lost_rank_ends_all_within_a_minute_and_the_run_goes_on(
    cluster: Path, tmp_path: Path
) -> None:
    workflow = Workflow(tmp_path / "run")
    config = small(tmp_path, epochs=10)
    words = ("--profile", PROFILE, "--configfile", config, "--", "pretrain_all")
    log = (workflow.folder / "snakemake.log").open("wb")
    outside = subprocess.Popen(snakemake(workflow.folder, *words), stdout=log, stderr=log)
    owner = workflow.training(0)
    job = str(owner.slurm_job)
    lost = [p for p in ranks(job) if p.environ()["SLURM_PROCID"] == "1"]
    began = time.monotonic()
    lost[0].kill()
    wait_for(lambda: state(job) != "RUNNING", seconds=60)
    ended = time.monotonic() - began
    assert not ranks(job)
    assert workflow.redone(0, owner) <= INTERVAL
    let_go(str(wait_for(lambda: workflow.owner(0)).slurm_job))
    assert outside.wait(timeout=300) == 0
    assert "Killed" in (workflow.folder / "snakemake.log").read_text()
    print(f"all ranks ended {ended:.0f} s after one was lost")


@pytest.mark.slow
def test_a_job_killed_for_memory_is_sent_again_with_more(cluster: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    growing = profile(tmp_path / "profile", mem_mb="300 * attempt ** 3")
    words = ("--profile", growing, "--configfile", small(tmp_path, epochs=2))
    printed = run(folder, *words, "--", "pretrain_all")
    assert "mem_mb=300" in printed
    assert "mem_mb=2400" in printed


@pytest.mark.slow
def test_a_full_disk_is_named_and_with_more_room_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "decur", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs root and leave to mount a file system")
    try:
        config = small(tmp_path, epochs=2)
        words = ("--cores", 1, "--configfile", config, "--", "pretrain_all")
        full = subprocess.run(
            snakemake(folder, *words), capture_output=True, text=True, check=False
        )
        assert full.returncode != 0
        reason = [line for line in full.stderr.splitlines() if line.startswith("decur: error")]
        assert "No space left" in reason[-1]
        subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
        run(folder, *words)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_refused_submission_is_tried_again(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = tmp_path / "refused"
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f'#!/bin/sh\n[ -e {refused} ] && exec {shutil.which("sbatch")} "$@"\n'
        f"touch {refused}\necho 'sbatch: error: Socket timed out' >&2\nexit 1\n"
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sbatch.parent}:{os.environ['PATH']}")
    folder = tmp_path / "run"
    folder.mkdir()
    printed = run(folder, "--profile", PROFILE, "--configfile", CONFIG, "--", "download_all")
    assert refused.exists()
    assert "Socket timed out" in printed
