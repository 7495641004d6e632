"""Of processes that compete for a lock, one gets it."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from decur.cluster.lock import claim, holder, this_process
from decur.errors import DecurError
from tests.support import HOME
from tests.support.lock import held_by

RIVALS, ROUNDS = 8, 20
COMPETITION = HOME / "tests" / "support" / "competition.py"


def competition(*arguments, prefix=()):
    """A program that competes for a claim; see competition.py."""
    command = [*prefix, sys.executable, "-B", COMPETITION, *map(str, arguments)]
    return subprocess.Popen([*map(str, command)])


def outcomes(folder):
    return {
        number: Counter(p.read_text().split(":")[0] for p in folder.glob(f"{number}/outcome-*"))
        for number in range(ROUNDS)
    }


def held_rounds(folder, rivals):
    """Let the rivals claim a folder per round at the same moment; they hold what they have got."""
    for number in range(ROUNDS):
        (folder / f"go-{number}").touch()
        give_up = time.monotonic() + 60
        while len([*(folder / str(number)).glob("outcome-*")]) < len(rivals):
            assert time.monotonic() < give_up
            time.sleep(0.005)
    (folder / "end").touch()
    assert [rival.wait(timeout=60) for rival in rivals] == [0] * len(rivals)


def prepare(folder, stale):
    ended = replace(this_process(), pid=2**22 + 1, begun="5")
    for number in range(ROUNDS):
        (folder / str(number)).mkdir()
        if stale:
            held_by(folder / str(number) / "owner.json", ended)


@pytest.mark.slow
@pytest.mark.parametrize("links", ["link", "no-link"])
@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_of_many_at_once_one_claims(owner_file, tmp_path, stale, links):
    prepare(tmp_path, stale)
    rivals = [competition("rounds", tmp_path, ROUNDS, links) for _ in range(RIVALS)]
    held_rounds(tmp_path, rivals)
    one = Counter(won=1, refused=RIVALS - 1)
    assert outcomes(tmp_path) == dict.fromkeys(range(ROUNDS), one)
    left = {p.name for p in tmp_path.glob("*/*") if not p.name.startswith("outcome-")}
    assert left == {"owner.json"}


@pytest.mark.slow
def test_whoever_is_killed_at_any_time_one_at_a_time_works(owner_file, tmp_path):
    """Nobody is ever at work beside another, and the next one always gets its turn."""
    assert competition("killed", tmp_path, 5).wait(timeout=120) == 0
    at_work, turns, cut = None, 0, 0
    for line in (tmp_path / "log").read_text().splitlines():
        pid, what = line.split()
        if what == "in":
            assert at_work is None, line
            at_work, turns = pid, turns + 1
        elif what == "out":
            assert at_work == pid
            at_work = None
        elif at_work == pid:  # killed
            at_work, cut = None, cut + 1
    assert turns > 50
    assert cut > 5
    claim(tmp_path / "owner.json")


@pytest.fixture
def namespace():
    command = ("unshare", "--pid", "--fork", "--mount-proc")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("needs unshare, and root")
    return command


@pytest.mark.slow
def test_of_many_in_several_namespaces_one_claims(owner_file, tmp_path, namespace):
    """A stale claim of one namespace may be taken over there alone."""
    prepare(tmp_path, stale=False)
    prefixes = [(), namespace] * (RIVALS // 2)
    rivals = [competition("rounds", tmp_path, ROUNDS, "link", prefix=p) for p in prefixes]
    held_rounds(tmp_path, rivals)
    one = Counter(won=1, refused=RIVALS - 1)
    assert outcomes(tmp_path) == dict.fromkeys(range(ROUNDS), one)


def test_a_stale_claim_of_another_namespace_may_be_at_work(owner_file, namespace):
    code = (
        "import sys, pathlib as p; from decur.cluster.lock import claim; claim(p.Path(sys.argv[1]))"
    )
    subprocess.run([*namespace, sys.executable, "-c", code, owner_file], check=True)
    assert holder(owner_file).host == this_process().host
    with pytest.raises(
        DecurError, match="cannot be checked from this machine; if it no longer runs, delete"
    ):
        claim(owner_file)
