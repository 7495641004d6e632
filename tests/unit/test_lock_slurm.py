"""Locks of SLURM jobs: who may end a job that still holds one."""

from dataclasses import replace

import pytest

from decur.cluster.lock import Owner, claim, holder, taken_over, this_process
from decur.errors import DecurError
from tests.support.lock import held_by

LEFT_OVER = Owner("n1", 1, "5", "me", slurm_job="7", alone=True)


def within(monkeypatch, job, *, alone=True, restarts="0"):
    """This process is part of a job that was submitted for one run `alone`, or not."""
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("DECUR_JOB", job if alone else "")
    monkeypatch.setenv("DECUR_RESTARTS", restarts)


def test_a_job_ends_a_left_over_one_and_waits_for_it(owner_file, cluster, monkeypatch, capsys):
    held_by(owner_file, LEFT_OVER)
    within(monkeypatch, "8")
    with taken_over(owner_file):
        assert holder(owner_file) == this_process()
        assert holder(owner_file).slurm_job == "8"
        assert holder(owner_file).alone
    assert (cluster / "calls").read_text() == "scancel 7\n"
    assert "ending SLURM job 7" in capsys.readouterr().out
    assert not owner_file.exists()


@pytest.mark.parametrize(
    ("owner", "alone"),
    [
        (replace(LEFT_OVER, alone=False), True),  # perhaps an interactive one, with other work
        (LEFT_OVER, False),  # it may be one of a Snakemake that lives
    ],
)
def test_no_job_with_other_work_in_it_is_ended(owner_file, cluster, monkeypatch, owner, alone):
    held_by(owner_file, owner)
    within(monkeypatch, "8", alone=alone)
    with (
        pytest.raises(DecurError, match="SLURM job 7, process 1 of me on n1"),
        taken_over(owner_file),
    ):
        pass
    assert not (cluster / "calls").exists()


def test_an_allocation_that_outlives_the_process_does_not_count(owner_file, cluster, monkeypatch):
    ended = replace(this_process(), pid=2**22 + 1, begun="5", slurm_job="7")
    held_by(owner_file, ended)
    with taken_over(owner_file):
        assert holder(owner_file) == this_process()
    within(monkeypatch, "7", alone=False)
    held_by(owner_file, ended)
    with taken_over(owner_file):
        assert holder(owner_file) == this_process()
    assert not (cluster / "calls").exists()


def test_who_is_in_no_job_does_not_end_one(owner_file, cluster):
    held_by(owner_file, LEFT_OVER)
    with (
        pytest.raises(DecurError, match="SLURM job 7, process 1 of me on n1"),
        taken_over(owner_file),
    ):
        pass
    (cluster / "state").write_text("")
    with taken_over(owner_file):
        assert holder(owner_file) == this_process()


def test_a_requeued_job_is_its_own_successor(owner_file, cluster, monkeypatch):
    within(monkeypatch, "7", restarts="1")
    held_by(owner_file, replace(LEFT_OVER, host="another-node", restarts=0))
    with taken_over(owner_file):
        assert holder(owner_file) == this_process()
    assert not (cluster / "calls").exists()


@pytest.mark.parametrize("restarts", [1, None])
def test_another_node_of_our_own_job_may_be_at_work(owner_file, cluster, monkeypatch, restarts):
    within(monkeypatch, "7", restarts="1")
    held_by(owner_file, replace(LEFT_OVER, host="another-node", restarts=restarts))
    with (
        pytest.raises(DecurError, match="me on another-node"),
        taken_over(owner_file),
    ):
        pass
    assert not (cluster / "calls").exists()


def test_a_cluster_that_does_not_answer_is_named(owner_file, monkeypatch):
    monkeypatch.setenv("PATH", "")
    held_by(owner_file, Owner("n1", 1, "5", "me", slurm_job="7"))
    with pytest.raises(DecurError, match="squeue: SLURM does not respond"):
        claim(owner_file)
