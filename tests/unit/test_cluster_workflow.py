"""What a process of Snakemake prepares, and what it says about the locks of others."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from decur.cluster.lock import claim, this_process
from decur.cluster.workflow import advice_on_lock, is_for_one_job
from tests.support.lock import held_by

JOBSTEP = ["snakemake", "--executor", "slurm-jobstep", "--jobs", "1"]


@pytest.mark.parametrize(
    ("argv", "alone"),
    [
        (["snakemake", "--profile", "slurm"], False),
        (["snakemake", "--target-jobs", "pretrain:run=a", "--cores", "2"], False),
        (JOBSTEP, False),
        ([*JOBSTEP, "--target-jobs", "pretrain:run=a", "--cores", "2"], True),
        ([*JOBSTEP, "--target-jobs", "pretrain:run=a"], True),
        ([*JOBSTEP, "--target-jobs", "pretrain:run=a", "transfer:run=a", "--cores", "2"], False),
    ],
    ids=["main", "local", "no-target", "one", "one-at-the-end", "group"],
)
def test_a_job_is_alone_where_slurm_runs_one_target(argv, alone):
    assert is_for_one_job(argv) is alone


@pytest.mark.parametrize("targets", [["pretrain:run=a"], ["pretrain:run=a", "explain:run=a"]])
def test_a_process_lives_through_the_warning_and_marks_a_job_of_its_own(targets):
    code = """
import os, signal, sys
from decur.cluster.workflow import begin
begin(sys.argv)
os.kill(os.getpid(), signal.SIGUSR1)
print(os.environ.get("DECUR_JOB"))
"""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "DECUR_"))}
    command = [sys.executable, "-c", code, *JOBSTEP, "--target-jobs", *targets]
    environment = known | {"SLURM_JOB_ID": "7"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ("7\n" if len(targets) == 1 else "None\n")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A claim that is not made yet, and the folder of Snakemake's locks, with one."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "DECUR_")):
            monkeypatch.delenv(name)
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "0.input.lock").touch()
    return tmp_path / "results" / "owner.json", locks


def test_without_a_claim_or_a_lock_there_is_no_advice(places, tmp_path):
    owner, locks = places
    assert advice_on_lock(owner, locks) is None
    claim(owner)
    assert advice_on_lock(owner, locks) is not None
    assert advice_on_lock(owner, tmp_path / "no-locks") is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "wait for it or end it"),
        ({"begun": "1"}, "which has ended: remove it with `snakemake --unlock`"),
        ({"host": "elsewhere"}, "if not, run `snakemake --unlock`"),
        ({"host": "elsewhere", "slurm_job": "7"}, "if not, run `snakemake --unlock`"),
    ],
    ids=["at-work", "gone", "out-of-reach", "slurm-does-not-answer"],
)
def test_the_advice_depends_on_whether_the_owner_is_at_work(places, monkeypatch, changes, words):
    owner, locks = places
    monkeypatch.setenv("PATH", "")
    there = replace(this_process(), **changes)
    held_by(owner, there)
    advice = advice_on_lock(owner, locks)
    assert advice is not None and words in advice and str(there) in advice
