import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decur.artifacts.timing import JobTimer
from decur.cluster import slurm
from decur.cluster.slurm import (
    OVER,
    end_job,
    is_alive,
    is_marked,
    is_over,
    mark_own_job,
    own_job,
    requeue_own_job,
    restarts,
)
from decur.errors import DecurError

ON = (
    *("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_FED"),
    *("REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT"),
    *("STOPPED", "UPDATE_DB", "POWER_UP_NODE", "A_NEW_STATE"),
)

IDS = st.integers(1, 2**31).map(str)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    """No SLURM job, whatever this runs in."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "DECUR_")):
            monkeypatch.delenv(name)
    slurm._array_task.cache_clear()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """SLURM's commands, which note how they are called; squeue prints what `answer` contains."""
    (tmp_path / "bin").mkdir()
    answers = {"squeue": f"cat {tmp_path}/answer", "scancel": f": > {tmp_path}/answer"}
    for name in ("squeue", "scancel", "scontrol"):
        command = tmp_path / "bin" / name
        note = f'echo "{name} $@" >> {tmp_path}/calls'
        command.write_text(f"#!/bin/sh\n{note}\n{answers.get(name, ':')}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "answer").write_text("")
    return tmp_path


def within(patch, **variables):
    for name, value in variables.items():
        patch.setenv(f"SLURM_{name}", value)


def calls(cluster):
    return (cluster / "calls").read_text().splitlines()


def test_the_last_task_of_an_array_requeues_and_cancels_itself_alone(cluster, monkeypatch):
    within(monkeypatch, JOB_ID="40", ARRAY_JOB_ID="40", ARRAY_TASK_ID="3")
    assert requeue_own_job() == own_job() == "40_3"
    end_job("40_3")
    asked = calls(cluster)
    assert asked[:2] == ["scontrol requeue 40_3", "scancel 40_3"]
    assert asked[2].endswith("--jobs 40_3")
    assert JobTimer().record().slurm_job == "40_3"


def test_a_task_of_an_array_is_named_by_it(cluster, monkeypatch):
    within(monkeypatch, JOB_ID="42", ARRAY_JOB_ID="40", ARRAY_TASK_ID="1")
    (cluster / "answer").write_text("40_1\n")
    assert own_job() == "40_1"


def test_a_job_submitted_by_a_task_of_an_array_is_not_that_task(cluster, monkeypatch):
    """`sbatch` passes the variables of the task on to it."""
    within(monkeypatch, JOB_ID="44", ARRAY_JOB_ID="40", ARRAY_TASK_ID="1")
    (cluster / "answer").write_text("44_N/A\n")
    assert own_job() == own_job() == "44"
    assert len(calls(cluster)) == 1


def test_a_component_of_a_heterogeneous_job_has_the_id_of_the_first(monkeypatch):
    within(monkeypatch, JOB_ID="5", HET_SIZE="2", JOB_ID_HET_GROUP_0="5", JOB_ID_HET_GROUP_1="6")
    assert own_job() == "5"


def test_without_slurm_there_is_no_job(monkeypatch):
    within(monkeypatch, JOB_ID="", RESTART_COUNT="3")
    assert own_job() is None
    assert not is_marked()
    assert "slurm_job" not in JobTimer().record()
    with pytest.raises(DecurError, match="this is not a SLURM job"):
        requeue_own_job()


@given(job=IDS, array=IDS, task=st.integers(0, 4_000_000).map(str))
def test_whatever_the_ids_a_task_is_never_taken_for_its_array(job, array, task):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        within(patch, JOB_ID=job)
        assert own_job() == job
        within(patch, ARRAY_JOB_ID=array, ARRAY_TASK_ID=task)
        assert own_job() == f"{array}_{task}"


@pytest.mark.parametrize("state", [*ON, *sorted(OVER)])
def test_a_job_is_alive_unless_its_state_is_over(cluster, state):
    (cluster / "answer").write_text(f"{state}\n")
    assert is_alive("7") == (state in ON)


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        ("", False),
        ("\n \n", False),
        ("RUNNING\nRUNNING\n", True),  # components, or an array
        ("COMPLETED\nFAILED\nRUNNING\n", True),
        ("COMPLETED\nCANCELLED by 0\n", False),
        ("  pending \n", True),
    ],
)
def test_every_line_of_the_answer_counts(cluster, answer, alive):
    (cluster / "answer").write_text(answer)
    assert is_alive("7") == alive


def test_an_unknown_id_is_of_no_job_and_another_error_is_one(cluster):
    squeue = cluster / "bin" / "squeue"
    squeue.write_text("#!/bin/sh\necho slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert not is_alive("7")
    squeue.write_text("#!/bin/sh\necho slurm_load_jobs error: Unable to contact >&2; exit 1")
    with pytest.raises(DecurError, match="Unable to contact"):
        is_alive("7")


BLANKS = st.text(" \t", max_size=3)


@given(
    state=st.sampled_from(sorted(OVER)),
    suffix=st.sampled_from(["", "+", " by 0", " by 1000"]),
    lower=st.booleans(),
    blanks=st.tuples(BLANKS, BLANKS),
)
def test_a_state_is_over_in_every_spelling(state, suffix, lower, blanks):
    assert is_over(blanks[0] + (state.lower() if lower else state) + suffix + blanks[1])


@given(st.text(string.ascii_letters + "_+, ", max_size=20) | st.sampled_from(ON))
def test_any_other_state_is_not_over(text):
    known = text.upper().strip().removesuffix("+").split(" BY ")[0]
    assert is_over(text) == (known in OVER)


def test_a_marked_job_is_the_one_that_was_marked_and_not_what_it_submits(monkeypatch):
    within(monkeypatch, JOB_ID="7", RESTART_COUNT="2")
    monkeypatch.setenv("DECUR_JOB", "")
    monkeypatch.setenv("DECUR_RESTARTS", "")
    assert not is_marked()
    mark_own_job()
    assert is_marked()
    monkeypatch.delenv("SLURM_RESTART_COUNT")  # as the executor's job step does
    assert restarts() == 2
    assert JobTimer().record().slurm_restarts == "2"
    within(monkeypatch, JOB_ID="8")
    assert not is_marked()
    assert restarts() == 0
