"""A warning that comes early, before a run is ready for it, is not lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from decur.cluster.signals import SIGNALS, WARNING, hold_warning, stop_request
from tests.support.pretraining import settings


@pytest.fixture(autouse=True)
def _as_before():
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_an_inner_block_knows_what_came_before_it():
    with stop_request(WARNING) as outer:
        os.kill(os.getpid(), WARNING)
        with stop_request() as inner:
            assert inner.name == outer.name == "SIGUSR1"
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with stop_request() as later:
        assert later.name is None


def test_a_warning_that_was_held_is_noted():
    """In a process without other threads, one of which might take the signal."""
    code = """
import os
from decur.cluster.signals import WARNING, hold_warning, stop_request
hold_warning()
os.kill(os.getpid(), WARNING)
with stop_request(WARNING) as request:
    print(request.name)
os.kill(os.getpid(), WARNING)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "SIGUSR1\n"


def catches_it(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (WARNING - 1) & 1)


def is_loading(pid: int) -> bool:
    """The interpreter runs, and is far from the handler."""
    return "python" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("held", [False, True])
def test_a_run_that_is_warned_before_it_is_ready_saves_and_says_so(shards_root, tmp_path, held):
    """As soon as it can, while torch is not even imported; held, even before that."""
    command = [sys.executable, "-m", "decur", "pretrain", "--shards", str(shards_root)]
    command += ["--settings", settings(epochs=4).model_dump_json(), "--out", str(tmp_path)]
    if held:
        hold_warning()
    ready: Callable[[int], bool] = is_loading if held else catches_it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        while not ready(run.pid):
            time.sleep(0.001)
        assert "torch" not in Path(f"/proc/{run.pid}/maps").read_text()
        run.send_signal(WARNING)
        _, error = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "stopped by SIGUSR1 after step 0, and saved" in error
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [
        "checkpoint-00000001.pt"
    ]
