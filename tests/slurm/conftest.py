"""A throw-away SLURM for the tests, and Snakemake on it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

HERE = Path(__file__).parent
HOME = HERE.parents[1]
PROFILE = HOME / "profiles" / "slurm-test"

CONFIG = Path("/etc/slurm/slurm.conf")
"""Of the throw-away cluster: jobs find it there alone."""

Found = TypeVar("Found")


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running cluster."""
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("needs root, slurm-wlm and munge: apt-get install slurm-wlm munge")
    if CONFIG.is_file() and "# Throw-away" not in CONFIG.read_text():
        pytest.skip(f"{CONFIG}: this machine belongs to a real SLURM")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([HERE / "start", folder], check=True)
    yield folder
    subprocess.run([HERE / "stop", folder], check=True)


def profile(folder: Path, **pretrain: object) -> Path:
    """A copy of profiles/slurm-test: one task a pretraining, with the resources given."""
    tree = yaml.safe_load((PROFILE / "config.yaml").read_text())
    kept = {key: tree["set-resources"]["pretrain"][key] for key in ("options", "slurm_extra")}
    tree["set-resources"]["pretrain"] = kept | {"gpu": 1} | pretrain
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


def output(*command: object) -> str:
    """What a command prints, whether it succeeds or not."""
    words = [*map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def snakemake(folder: Path, *arguments: object) -> list[str]:
    """The command that runs the workflow in a folder."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    return [*map(str, [*base, "--directory", folder, *arguments])]


def run(folder: Path, *arguments: object, env: Mapping[str, str] | None = None) -> str:
    """Run the workflow to its end; returns what it printed."""
    words = snakemake(folder, *arguments)
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=folder, env=env, timeout=1500, check=False
    )
    text = done.stdout + done.stderr
    if done.returncode:
        pytest.fail(text[-5000:])
    return text


def wait_for(find: Callable[[], Found | None], seconds: float = 600) -> Found:
    """What `find` finds at last; the test fails if that takes too long."""
    give_up = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > give_up:
            pytest.fail(f"waited {seconds:g} s in vain\n{output('squeue')}")
        time.sleep(0.2)
    return found
