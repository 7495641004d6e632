import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decur.cluster import lock as claims
from decur.cluster.lock import Owner, claim, holder, is_gone, release, this_process, user_name
from decur.errors import DecurError
from tests.support.lock import held_by


def another_process():
    """A process that sleeps until its input is closed."""
    code = "import sys; sys.stdin.read()"
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def test_a_claim_is_made_seen_and_given_up(owner_file):
    assert holder(owner_file) is None
    claim(owner_file)
    claim(owner_file)  # one's own may be made again
    assert holder(owner_file) == this_process()
    release(owner_file)
    assert not owner_file.exists()


def test_who_is_at_work_keeps_others_out_until_they_are_gone(owner_file):
    with another_process() as other:
        pid = other.pid
        owner = replace(this_process(), pid=pid, begun=claims._begun(pid))
        held_by(owner_file, owner)
        with pytest.raises(DecurError, match=f"process {pid} "):
            claim(owner_file)
        release(owner_file)
        assert holder(owner_file) == owner
        other.communicate()
    assert is_gone(owner)
    claim(owner_file)
    assert holder(owner_file) == this_process()


def test_a_later_process_of_the_same_number_is_another(owner_file):
    held_by(owner_file, replace(this_process(), begun="1"))
    claim(owner_file)
    assert holder(owner_file) == this_process()


def test_a_process_of_another_machine_may_be_at_work(owner_file):
    held_by(owner_file, Owner("elsewhere", 1, "5", "somebody"))
    with pytest.raises(DecurError, match=r"somebody on elsewhere.*owner\.json"):
        claim(owner_file)


@pytest.mark.parametrize("content", ["", '{"host":', "[]", '{"host": "here", "pid": "1"}'])
def test_a_claim_that_cannot_be_read_is_not_ours_to_remove(owner_file, monkeypatch, content):
    monkeypatch.setattr(claims, "PATIENCE", 0.1)
    owner_file.parent.mkdir()
    owner_file.write_text(content)
    assert holder(owner_file) is None
    with pytest.raises(DecurError, match=r"owner\.json"):
        claim(owner_file)
    assert owner_file.read_text() == content


def test_a_folder_in_the_place_of_a_claim_is_named(owner_file):
    owner_file.mkdir(parents=True)
    with pytest.raises(DecurError, match=r"owner\.json.*directory"):
        claim(owner_file)


def test_a_claim_that_is_being_written_is_waited_for(owner_file):
    owner_file.parent.mkdir()
    owner_file.write_text("")
    ended = replace(this_process(), begun="1")
    threading.Timer(0.3, held_by, (owner_file, ended)).start()
    claim(owner_file)
    assert holder(owner_file) == this_process()


def test_the_claim_of_an_earlier_version_is_read(owner_file):
    fields = {"host": "elsewhere", "pid": 1, "begun": "5", "user": "somebody", "slurm_job": "7"}
    owner_file.parent.mkdir()
    owner_file.write_text(json.dumps(fields))
    owner = holder(owner_file)
    assert owner == Owner(**fields)
    assert (owner.boot, owner.restarts, owner.alone) == (None, None, False)
    fields |= {"host": this_process().host, "pid": os.getpid(), "slurm_job": None}
    assert is_gone(Owner(**fields))
    assert is_gone(Owner(**(fields | {"begun": this_process().begun}))) is False


def test_the_claim_of_a_later_version_is_read(owner_file):
    owner_file.parent.mkdir()
    owner_file.write_text(json.dumps(asdict(this_process()) | {"colour": "blue"}))
    assert holder(owner_file) == this_process()


TEXTS = st.none() | st.text()


@pytest.mark.slow
@given(
    st.builds(
        Owner,
        host=st.text(),
        pid=st.integers(1, 2**31 - 1),
        begun=st.text(),
        user=st.text(),
        slurm_job=TEXTS,
        machine=TEXTS,
        boot=TEXTS,
        pid_namespace=TEXTS,
        restarts=st.none() | st.integers(),
        alone=st.booleans(),
    )
)
def test_every_owner_is_read_as_written(owner):
    assert claims._parsed(json.dumps(asdict(owner))) == owner


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
NAMES = st.sampled_from([*asdict(Owner("", 1, "", ""))])


@pytest.mark.slow
@given(st.text() | st.dictionaries(NAMES | st.text(), VALUES).map(json.dumps))
def test_no_content_is_a_bug(content):
    owner = claims._parsed(content)
    assert owner is None or (isinstance(owner.host, str) and owner.pid > 0)


def test_after_a_boot_whoever_worked_before_is_gone():
    here = this_process()
    if not (here.machine and here.boot):
        pytest.skip("no machine id")
    owner = replace(here, boot="another", pid=1)
    assert is_gone(owner)
    assert is_gone(replace(owner, machine="another")) is None
    assert is_gone(replace(owner, machine="")) is None
    assert is_gone(replace(owner, host="another")) is None


def test_a_number_of_another_namespace_means_nothing_here():
    owner = replace(this_process(), pid=2**22 + 1, begun="5")
    assert is_gone(owner)
    assert is_gone(replace(owner, pid_namespace="pid:[1]")) is None
    assert is_gone(replace(owner, machine="another")) is None


def test_a_process_that_proc_hides_is_not_gone(monkeypatch):
    def denied(path, **how):
        raise PermissionError(errno.EACCES, "denied", str(path))

    monkeypatch.setattr(claims.Path, "read_text", denied)
    assert claims._begun(os.getpid()) == ""
    assert claims._begun(2**22 + 1) is None
    monkeypatch.setattr(os, "kill", lambda pid, number: denied(pid))
    assert claims._begun(2**22 + 1) == ""  # it is another user's


def test_a_zombie_is_gone(owner_file):
    with another_process() as other:
        owner = replace(this_process(), pid=other.pid, begun=claims._begun(other.pid))
        assert is_gone(owner) is False
        os.kill(other.pid, signal.SIGKILL)
        give_up = time.monotonic() + 10
        while not is_gone(owner):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        assert other.returncode is None


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username set")])
def test_a_user_without_a_name_has_a_number(monkeypatch, error):
    def unknown():
        raise error

    monkeypatch.setattr("getpass.getuser", unknown)
    assert user_name() == str(os.getuid()) == this_process().user


@pytest.fixture
def without_links(monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_without_hard_links_a_claim_is_exclusive_too(owner_file, without_links):
    claim(owner_file)
    assert holder(owner_file) == this_process()
    assert not claims._create(owner_file, "other")
    assert [*owner_file.parent.iterdir()] == [owner_file]


@pytest.mark.parametrize("links", ["with", "without"])
def test_a_claim_that_cannot_be_written_is_one_error_and_no_file(
    owner_file, monkeypatch, request, links
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    if links == "without":
        request.getfixturevalue("without_links")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DecurError, match=r"owner\.json.*No space"):
        claim(owner_file)
    assert [*owner_file.parent.iterdir()] == []
