"""The workflow on a real SLURM of two nodes with pretend GPUs, and every fault that befalls there.

One file, since its tests share the cluster and a file's tests run in one process.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from decur.artifacts.paths import Run
from decur.cli import main
from decur.cluster.lock import holder
from decur.config import parse_config, pretrain_settings
from decur.planning.preflight import JOBS
from decur.scenes.stand_ins import write_stand_ins
from decur.tables.usage import stage_usage
from tests.support import HOME, TINY
from tests.support.faults import (
    CONFIG,
    INTERVAL,
    OF_ONE_RUN,
    SEEDS,
    Workflow,
    cut_power,
    hasten,
    let_go,
    loss_terms,
    node,
    ranks,
    small,
    started_ranks,
    state,
    warn,
)
from tests.support.rehearsal import CONFIGS, ROOT
from tests.support.slurm import PROFILE, other_site, output, profile, run, wait_for

SEED_0 = "sar-optical/decur/default/seed-0"
RUN = "results/tiny/pretrain/sar-optical/decur/default/seed-0"

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


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


def a_lost_rank_ends_all_within_a_minute_and_the_run_goes_on(folder: Path) -> None:
    words = ("--profile", PROFILE, "--configfile", small(folder, epochs=6), "--", "pretrain_all")
    with closing(Workflow(folder / "run", *words)) as workflow:
        workflow.start()
        owner = workflow.training(0)
        assert owner.alone
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


def a_transfer_that_is_warned_is_requeued_and_goes_on(folder: Path) -> None:
    """From its last checkpoint, within a cell."""
    tree = yaml.safe_load(TINY.read_text())
    tree["transfer"]["bigearthnet"] |= {"checkpoint_seconds": 1}
    tree["transfer"]["bigearthnet"]["linear"] |= {"epochs": 400}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    record = f"results/tiny/transfer/{SEED_0}/cells.json"
    words = ("--profile", profile(folder / "profile"), "--configfile", folder / "config.yaml")
    with closing(Workflow(folder / "run", *words, "--retries", 0, "--", record)) as workflow:
        workflow.start()
        cells = (workflow.folder / record).parent
        claim = wait_for(lambda: next(cells.glob("**/checkpoints/owner.json"), None))
        wait_for(lambda: [*claim.parent.glob("checkpoint-*.pt")])
        warn(str(wait_for(lambda: holder(claim)).slurm_job))
        assert workflow.snakemake.wait(timeout=600) == 0
        log = workflow.folder / f"results/tiny/logs/transfer/{SEED_0}.log"
    assert "continuing from checkpoint" in log.read_text()
    assert not [*cells.glob("**/checkpoints")]


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


def one_task_of_an_array_requeues_alone(folder: Path) -> None:
    """The last one, whose plain id is that of the array."""
    code = "from decur.cluster.slurm import requeue_own_job; print(requeue_own_job())"
    script = folder / "task"
    script.write_text(
        f"#!/bin/sh\necho start >> {folder}/starts-$SLURM_ARRAY_TASK_ID\n"
        '[ "$SLURM_JOB_ID" = "$SLURM_ARRAY_JOB_ID" ] && [ -z "$SLURM_RESTART_COUNT" ] &&\n'
        f"  {sys.executable} -c '{code}' > {folder}/requeued\nsleep 600\n"
    )
    words = ("--parsable", "--array=1-3", "--mem=500", f"--chdir={folder}", "--output=/dev/null")
    array = output("sbatch", *words, script).strip()
    try:
        last = f"{array}_3"
        wait_for(lambda: "RESTARTS=1" in job_record(last).upper())
        hasten(last)
        wait_for(lambda: state(last) == "RUNNING")
        starts = wait_for(lambda: len((folder / "starts-3").read_text().splitlines()) == 2)
        assert starts
        assert (folder / "requeued").read_text().strip() == last
        for other in (f"{array}_1", f"{array}_2"):
            assert state(other) == "RUNNING"
            assert "Restarts=0" in job_record(other)
            assert (folder / f"starts-{other[-1]}").read_text() == "start\n"
    finally:
        output("scancel", array)


def job_record(job: str) -> str:
    return output("scontrol", "show", "job", job)


def an_interactive_allocation_survives(folder: Path) -> None:
    """The workflow finds `decur pretrain` at work in it, and ends with one line."""
    config = small(folder, epochs=100)
    settings = pretrain_settings(
        parse_config(yaml.safe_load(config.read_text()), "config"), Run.parse(SEED_0)
    )
    shards, out = (
        folder / "run" / "results" / "faults" / part
        for part in ("shards/ssl4eo-s12", f"pretrain/{SEED_0}")
    )
    command = (Path(sys.executable).parent / "decur", "pretrain", "--shards", shards, "--out", out)
    words = shlex.join(map(str, [*command, "--settings", settings.model_dump_json()]))
    by_hand = f"(while sleep 0.2; do date > {folder}/other; done) & {words}; wait"
    allocation = subprocess.Popen(
        ["salloc", "--mem=2000", "sh", "-c", f"cd {folder}; echo $SLURM_JOB_ID > job; {by_hand}"],
        start_new_session=True,
    )
    try:
        workflow = Workflow(
            folder / "run",
            *("--profile", profile(folder / "profile"), "--configfile", config, "--retries", 0),
            *("--", "pretrain_all"),
        )
        owner = workflow.training(0)
        assert not owner.alone
        at_work = psutil.Process(owner.pid)
        at_work.suspend()
        done = subprocess.run(workflow.command, capture_output=True, text=True, check=False)
        assert done.returncode
        refusals = re.findall(r"^decur: error.*", done.stderr, flags=re.MULTILINE)
        assert refusals
        assert all(f"{owner} is at work here; wait for it or end it" in line for line in refusals)
        job = (folder / "job").read_text().strip()
        assert owner.slurm_job == job
        assert state(job) == "RUNNING"
        assert at_work.is_running()
        assert workflow.owner(0) == owner
        (folder / "other").unlink()
        wait_for(lambda: (folder / "other").exists(), seconds=10)
    finally:
        os.killpg(allocation.pid, signal.SIGKILL)
        allocation.wait()
        output("scancel", (folder / "job").read_text().strip())


def each_rank_has_the_gpu_that_it_was_given(folder: Path) -> None:
    """Several tasks on a node, each of which sees one GPU."""
    ranks = started_ranks(
        folder, tasks=2, launch="srun --kill-on-bad-exit --ntasks=2 --ntasks-per-gpu=1"
    )
    assert [rank["index"] for rank in ranks] == [0, 0]
    # Which numbers they have depends on the other jobs of the node.
    one, other = (rank["visible"] for rank in ranks)
    assert one != other and one.isdigit() and other.isdigit()


def the_profile_starts_a_rank_for_every_gpu(folder: Path) -> None:
    """All of a node see all of its GPUs, in the profile for the paper's scale."""
    profile = yaml.safe_load((HOME / "profiles" / "slurm" / "config.yaml").read_text())
    pretrain = profile["set-resources"]["pretrain"]
    threads, tasks = profile["set-threads"]["pretrain"], pretrain["tasks"]
    assert f"--ntasks={tasks} --cpus-per-task={threads}" in pretrain["launch"]
    # The nodes here have no more cores than one of those tasks is to have.
    launch = pretrain["launch"].replace(f"--cpus-per-task={threads}", "--cpus-per-task=1")
    ranks = started_ranks(folder, tasks=tasks, launch=launch)
    assert [rank["index"] for rank in ranks] == [0, 1, 2, 3]
    (visible,) = {rank["visible"] for rank in ranks}
    assert len(set(visible.split(","))) == 4


STORIES = (
    two_nodes_train_what_one_process_does,
    a_lost_rank_ends_all_within_a_minute_and_the_run_goes_on,
    a_transfer_that_is_warned_is_requeued_and_goes_on,
    a_job_killed_for_memory_is_sent_again_with_more,
    a_refused_submission_is_tried_again,
    one_task_of_an_array_requeues_alone,
    an_interactive_allocation_survives,
    each_rank_has_the_gpu_that_it_was_given,
    the_profile_starts_a_rank_for_every_gpu,
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


@pytest.mark.long
def test_the_demo_runs_through_slurm(cluster: Path, tmp_path: Path) -> None:
    one_task = profile(tmp_path / "profile")
    run(tmp_path, "--profile", one_task, "--configfile", HOME / "config" / "demo.yaml")
    tables = {p.stem: p.read_text() for p in (tmp_path / "results/demo/tables").glob("*.md")}
    assert tables.keys() >= {"table1", "table2", "table3", "factors"}
    assert not any("Incomplete" in text for text in tables.values())


@pytest.mark.long
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


@pytest.mark.long
def test_the_rehearsal_has_no_job_that_fails(cluster: Path, tmp_path: Path) -> None:
    """The paper's whole workflow, from stand-in archives to the report."""
    write_stand_ins(tmp_path / "stand-ins")
    words = ("--profile", profile(tmp_path / "profile"), "--retries", 0, "--keep-going")
    run(tmp_path, *words, "--configfile", *CONFIGS, minutes=90)
    root = tmp_path / ROOT
    assert (root / "report.html").is_file()
    assert not any("Incomplete" in table.read_text() for table in root.glob("tables/*.md"))
    print(*stage_usage(root), sep="\n")


# Last, since these clusters take the place of the one that the tests above share.
@pytest.mark.long
@pytest.mark.parametrize(
    ("site", "partitions", "ranks"),
    [
        ("cpus", {"long-run"}, 1),
        ("typed", {"batch", "gpu.q"}, 4),
        ("types", {"cpu", "fast"}, 4),
        ("untyped", {"all"}, 4),
    ],
)
def test_a_profile_written_for_a_site_runs_a_job_of_each_class(
    cluster: Path, tmp_path: Path, site: str, partitions: set[str], ranks: int
) -> None:
    with other_site(site, tmp_path / "slurm"):
        written = tmp_path / "profile"
        assert main(["doctor", "--write-profile", str(written)]) == 0
        words = ("--profile", written, "--configfile", TINY, "--cores", 16)
        words += ("--slurm-init-seconds-before-status-checks", 3, "--latency-wait", 10)
        printed = run(tmp_path, *words, "--", "preflight")
    assert {*re.findall(r"slurm_partition=([\w.-]+)", printed)} == partitions
    table = (tmp_path / "results" / "tiny" / "preflight" / "table.txt").read_text()
    assert {line.split()[0] for line in table.splitlines()[1:-2]} >= {*JOBS}
    assert "no record" not in table
    assert f"sum over {ranks} ranks is right" in " ".join(table.split())
