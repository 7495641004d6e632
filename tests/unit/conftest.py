"""Fixtures that several unit tests share."""

import os
from pathlib import Path

import pytest

from tests.support.preprocessing import make_raw
from tests.support.transfer import as_dataset


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards of `shards_root` as a dataset of three classes."""
    as_dataset(monkeypatch, "abc")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three raw tiles of GeoNRW."""
    return make_raw(tmp_path / "raw", 3)


@pytest.fixture
def owner_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a lock would be, for a process that is in no SLURM job."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "DECUR_")):
            monkeypatch.delenv(name)
    return tmp_path / "run" / "owner.json"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    monkeypatch.setattr("decur.cluster.slurm.POLL", 0.05)
    state.write_text("RUNNING\n")
    return tmp_path
