"""Every fault that a cluster knows befalls a run; the tables are those of a run without any."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.slurm.conftest import HERE, PROFILE, output, run, snakemake, wait_until

CONFIG = HERE / "faults.yaml"
INTERVAL = 10
"""Steps between two checkpoints of `faults.yaml`."""

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


class Runs:
    """The pretraining runs of `faults.yaml` in a folder, one a seed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def start(self) -> "subprocess.Popen[bytes]":
        """Snakemake in the background; what it prints is appended to `snakemake.log`."""
        words = snakemake(self.folder, "--profile", PROFILE, "--configfile", CONFIG)
        with (self.folder / "snakemake.log").open("ab") as log:
            return subprocess.Popen([*words, "--retries", "3"], stdout=log, stderr=log)

    def path(self, seed: int) -> Path:
        return self.folder / f"results/faults/pretrain/sar-optical/decur/default/seed-{seed}"

    def steps(self, seed: int) -> int:
        """How many steps are logged."""
        log = self.path(seed) / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    def job(self, seed: int) -> str:
        """Id of the SLURM job that works on the run; empty if none does."""
        try:
            return str(json.loads((self.path(seed) / "owner.json").read_text())["slurm_job"])
        except (OSError, ValueError):
            return ""

    def tables(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.folder / "results/faults/tables").iterdir()}

    def wait_for_training(self, seed: int) -> str:
        """Until the run is well under way; returns its job."""
        wait_until(lambda: self.steps(seed) > 3 * INTERVAL and self.job(seed))
        return self.job(seed)

    def redone(self, seed: int, before: int) -> int:
        """Wait until the run goes on; how many of the `before` steps it does again."""
        log = (
            self.folder / f"results/faults/logs/pretrain/sar-optical/decur/default/seed-{seed}.log"
        )

        def resumed() -> int | None:
            text = log.read_text(errors="replace") if log.is_file() else ""
            _, found, rest = text.rpartition("resuming at step ")
            return int(rest.split()[0]) if found else None

        wait_until(lambda: (at := resumed()) is not None and at >= before - 2 * INTERVAL)
        return before - (resumed() or 0)


def state(job: str) -> str:
    return output("squeue", "--noheader", "--states=all", "--format=%T", "--jobs", job).strip()


def hasten(job: str) -> None:
    """SLURM holds a requeued job for two minutes; this one need not wait."""
    wait_until(lambda: state(job) == "PENDING")
    output("scontrol", "update", f"JobId={job}", "StartTime=now")


def processes(pattern: str) -> list[int]:
    return [int(pid) for pid in output("pgrep", "-f", pattern).split()]


def test_every_fault_ends_in_the_same_tables(cluster: Path, tmp_path: Path) -> None:
    undisturbed = Runs(tmp_path / "undisturbed")
    run(undisturbed.folder, "--profile", PROFILE, "--configfile", CONFIG)
    runs = Runs(tmp_path / "faults")
    outside = runs.start()
    redone: dict[str, int] = {}

    job = runs.wait_for_training(0)
    before = runs.steps(0)
    output("scancel", "--signal=USR1", job)
    hasten(job)
    redone["SIGUSR1"] = runs.redone(0, before)

    job = runs.wait_for_training(1)
    before = runs.steps(1)
    output("scontrol", "requeue", job)
    hasten(job)
    redone["scontrol requeue"] = runs.redone(1, before)

    runs.wait_for_training(2)
    before = runs.steps(2)
    rank = processes('decur pretrain --requeue .*"seed":2,')[-1]
    os.kill(rank, signal.SIGKILL)
    redone["kill -9 of a rank"] = runs.redone(2, before)

    job = runs.wait_for_training(3)
    before = runs.steps(3)
    for pid in processes(f"job{int(job):05d}/slurm_script"):
        os.kill(pid, signal.SIGKILL)
    redone["kill -9 of the batch step"] = runs.redone(3, before)

    job = runs.wait_for_training(4)
    before = runs.steps(4)
    outside.kill()
    outside.wait()
    refused = subprocess.run(
        snakemake(runs.folder, "--profile", PROFILE, "--configfile", CONFIG),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "was left by" in refused.stderr
    run(runs.folder, "--configfile", CONFIG, "--cores", 1, "--unlock")
    outside = runs.start()
    redone["kill -9 of Snakemake"] = runs.redone(4, before)

    assert outside.wait(timeout=900) == 0
    assert runs.tables() == undisturbed.tables()
    print(redone)
    assert all(steps <= INTERVAL for steps in redone.values()), redone
