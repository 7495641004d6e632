import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from decur import claim as claims
from decur.claim import Owner, claim, holder, is_gone, release, taken_over, this_process
from decur.errors import DecurError


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return tmp_path / "run" / "owner.json"


def held_by(path, owner):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(owner)))


def another_process():
    """A process that sleeps until its input is closed."""
    code = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def test_a_claim_is_made_seen_and_given_up(path):
    assert holder(path) is None
    claim(path)
    claim(path)  # one's own may be made again
    assert holder(path) == this_process()
    release(path)
    assert not path.exists()


def test_who_is_at_work_keeps_others_out_until_they_are_gone(path):
    with another_process() as other:
        pid = other.pid
        owner = replace(this_process(), pid=pid, begun=claims._begun(pid))
        held_by(path, owner)
        with pytest.raises(DecurError, match=f"process {pid} .* is at work here; wait for it"):
            claim(path)
        release(path)
        assert holder(path) == owner
        other.communicate()
    assert is_gone(owner)
    claim(path)
    assert holder(path) == this_process()


def test_a_later_process_of_the_same_number_is_another(path):
    held_by(path, replace(this_process(), begun="1"))
    claim(path)
    assert holder(path) == this_process()


def test_a_process_of_another_machine_may_be_at_work(path):
    held_by(path, Owner("elsewhere", 1, "5", "somebody"))
    with pytest.raises(
        DecurError, match=r"somebody on elsewhere.*if it is not, delete .*owner\.json"
    ):
        claim(path)


def test_a_damaged_claim_is_none(path):
    path.parent.mkdir()
    path.write_text('{"host":')
    assert holder(path) is None
    claim(path)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """SLURM's commands, as far as they are asked, over a file with a job's state."""
    commands, state = tmp_path / "bin", tmp_path / "state"
    commands.mkdir()
    answers = {
        "squeue": f"cat {state}",
        "scancel": f'echo "scancel $@" >> {tmp_path}/calls; echo COMPLETING > {state}; '
        f"(sleep 0.3; : > {state}) > /dev/null 2>&1 &",
        "scontrol": f'echo "scontrol $@" >> {tmp_path}/calls',
    }
    for name, answer in answers.items():
        (commands / name).write_text(f"#!/bin/sh\n{answer}\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr("decur.slurm.POLL", 0.05)
    state.write_text("RUNNING\n")
    return tmp_path


def test_a_job_ends_a_left_over_one_and_waits_for_it(path, cluster, monkeypatch, capsys):
    held_by(path, Owner("n1", 1, "5", "me", slurm_job="7"))
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    with taken_over(path):
        assert holder(path) == this_process()
        assert holder(path).slurm_job == "8"
    assert (cluster / "calls").read_text() == "scancel 7\n"
    assert "ending SLURM job 7" in capsys.readouterr().out
    assert not path.exists()


def test_who_is_in_no_job_does_not_end_one(path, cluster):
    held_by(path, Owner("n1", 1, "5", "me", slurm_job="7"))
    with (
        pytest.raises(DecurError, match="SLURM job 7, process 1 of me on n1 is at work here"),
        taken_over(path),
    ):
        pass
    (cluster / "state").write_text("")
    with taken_over(path):
        assert holder(path) == this_process()


def test_a_requeued_job_is_its_own_successor(path, cluster, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    held_by(path, Owner("another-node", 1, "5", "me", slurm_job="7"))
    with taken_over(path):
        assert holder(path) == this_process()
    assert not (cluster / "calls").exists()


def test_a_cluster_that_does_not_answer_is_named(path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    held_by(path, Owner("n1", 1, "5", "me", slurm_job="7"))
    with pytest.raises(DecurError, match="squeue: SLURM does not answer"):
        claim(path)
