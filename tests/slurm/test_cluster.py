"""The workflow on a real SLURM of two nodes with pretend GPUs, and every fault that befalls there.

One file, since its tests share the cluster and a file's tests run in one process.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from tests.slurm.conftest import HERE, HOME, PROFILE, output, profile, run, wait_for
from tests.slurm.faults import (
    CONFIG,
    INTERVAL,
    OF_ONE_RUN,
    SEEDS,
    Workflow,
    cut_power,
    hasten,
    let_go,
    node,
    ranks,
    small,
    state,
)

TINY = HERE.parent / "workflow" / "tiny.yaml"
RUN = "results/tiny/pretrain/sar-optical/decur/default/seed-0"

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def loss_terms(log: Path) -> list[dict[str, float]]:
    """The loss terms of every step."""
    terms = ("loss", "intra1", "intra2", "common", "unique")
    return [{t: line[t] for t in terms} for line in map(json.loads, log.read_text().splitlines())]


def two_nodes_train_what_one_process_does(folder: Path) -> None:
    """And a job has the cores that it asks for, were they more than this machine's.

    With small steps, since what comes of the order of float32 sums, which differs, grows with them.
    """
    tree = yaml.safe_load(TINY.read_text())
    tree["scenarios"]["sar-optical"]["pretrain"] |= {"lr": 1e-5, "lr_1d": 1e-5}
    config = folder / "small-steps.yaml"
    config.write_text(yaml.safe_dump(tree, sort_keys=False))
    nodes, alone = folder / "nodes", folder / "alone"
    for each in (nodes, alone):
        each.mkdir()
    target = ("--configfile", config, "--", f"{RUN}/weights.safetensors")
    printed = run(nodes, "--profile", PROFILE, "--set-threads", "pretrain=3", *target)
    assert "threads: 3" in printed
    run(alone, "--cores", 2, *target)
    two, one = (loss_terms(each / RUN / "log.jsonl") for each in (nodes, alone))
    assert len(two) == 24
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


def the_demo_runs_through_slurm(folder: Path) -> None:
    one_task = profile(folder / "profile")
    run(folder, "--profile", one_task, "--configfile", HOME / "config" / "demo.yaml")
    tables = {p.stem: p.read_text() for p in (folder / "results/demo/tables").glob("*.md")}
    assert tables.keys() >= {"table1", "table2", "table3", "factors"}
    assert not any("Incomplete" in text for text in tables.values())


def a_lost_rank_ends_all_within_a_minute_and_the_run_goes_on(folder: Path) -> None:
    words = ("--profile", PROFILE, "--configfile", small(folder, epochs=6), "--", "pretrain_all")
    with closing(Workflow(folder / "run", *words)) as workflow:
        workflow.start()
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
        assert workflow.snakemake.wait(timeout=600) == 0
    assert "Killed" in (workflow.folder / "snakemake.log").read_text()
    print(f"all ranks ended {ended:.0f} s after one was lost")


def a_job_killed_for_memory_is_sent_again_with_more(folder: Path) -> None:
    growing = profile(folder / "profile", mem_mb="300 * attempt ** 3")
    words = ("--profile", growing, "--configfile", small(folder, epochs=2))
    printed = run(folder / "run", *words, "--", "pretrain_all")
    assert "mem_mb=300" in printed
    assert "mem_mb=2400" in printed


def a_refused_submission_is_tried_again(folder: Path) -> None:
    refused = folder / "refused"
    sbatch = folder / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(
        f'#!/bin/sh\n[ -e {refused} ] && exec {shutil.which("sbatch")} "$@"\n'
        f"touch {refused}\necho 'sbatch: error: Socket timed out' >&2\nexit 1\n"
    )
    sbatch.chmod(0o755)
    path = f"{sbatch.parent}:{os.environ['PATH']}"
    words = ("--profile", PROFILE, "--configfile", CONFIG, "--", "download_all")
    printed = run(folder, *words, env=os.environ | {"PATH": path})
    assert refused.exists()
    assert "Socket timed out" in printed


STORIES = (
    the_demo_runs_through_slurm,
    two_nodes_train_what_one_process_does,
    a_lost_rank_ends_all_within_a_minute_and_the_run_goes_on,
    a_job_killed_for_memory_is_sent_again_with_more,
    a_refused_submission_is_tried_again,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shards of `faults.yaml`, to be copied."""
    folder = tmp_path_factory.mktemp("prepared")
    run(folder, "--configfile", CONFIG, "--cores", 2, "--", "preprocess_all")
    return folder


@pytest.fixture(scope="module")
def under_way(
    cluster: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The stories, three at a time: they wait for SLURM, too. Each has the shards in `run`."""
    began = {}
    with ThreadPoolExecutor(3) as pool:
        for story in STORIES:
            folder = tmp_path_factory.mktemp("story")
            shutil.copytree(prepared, folder / "run")
            began[story.__name__] = pool.submit(story, folder)
        yield began


@pytest.mark.parametrize("story", [story.__name__ for story in STORIES])
def test_side_by_side(under_way: dict[str, Future[None]], story: str) -> None:
    under_way[story].result()


def test_every_fault_ends_in_the_same_tables(cluster: Path, prepared: Path, tmp_path: Path) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "disturbed"
    for copy in (undisturbed, folder):
        shutil.copytree(prepared, copy)
    one_task = ("--profile", profile(folder / "profile"), "--configfile", CONFIG, "--retries", 4)
    with ThreadPoolExecutor() as pool, closing(Workflow(folder, *one_task)) as disturbed:
        through = pool.submit(run, undisturbed, "--configfile", CONFIG, "--cores", 2)
        disturbed.start()

        def befall(fault: str, seed: int) -> int:
            owner = disturbed.training(seed)
            OF_ONE_RUN[fault](str(owner.slurm_job))
            return disturbed.redone(seed, owner)

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
        redone["a node lost"] = max(pool.map(disturbed.redone, owners, owners.values()))
        # Not before: SLURM 22.05 may die of a job that goes on where it was lost.
        subprocess.run(["setsid", "slurmd", "-N", lost], check=True)

        owners = disturbed.at_work()
        assert owners.keys() == set(SEEDS)
        disturbed.close()
        refused = subprocess.run(disturbed.command, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
        assert "was left by" in refused.stderr
        run(folder, "--configfile", CONFIG, "--cores", 1, "--unlock")
        disturbed.start()
        redone["`kill -9` of Snakemake"] = max(pool.map(disturbed.redone, owners, owners.values()))

        for owner in disturbed.at_work().values():
            let_go(str(owner.slurm_job))
        assert disturbed.snakemake.wait(timeout=900) == 0
        through.result()
    print(redone)
    assert all(steps <= INTERVAL for steps in redone.values()), redone
    ours, theirs = disturbed, Workflow(undisturbed)
    for seed in SEEDS:
        same = zip(*(sorted(w.weights(seed).items()) for w in (ours, theirs)), strict=True)
        assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in same)
    assert ours.tables() == theirs.tables()
