"""A throw-away SLURM for the tests, and Snakemake on it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HOME = HERE.parents[1]
PROFILE = HOME / "profiles" / "slurm-test"


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running cluster."""
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("needs root, slurm-wlm and munge: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([HERE / "start", folder], check=True)
    yield folder
    subprocess.run([HERE / "stop", folder], check=True)


def snakemake(folder: Path, *arguments: object) -> list[str]:
    """The command that runs the workflow in a folder."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", HOME / "workflow" / "Snakefile"]
    return [*map(str, [*base, "--directory", folder, *arguments])]


def run(folder: Path, *arguments: object) -> str:
    """Run the workflow to its end; returns what it printed."""
    done = subprocess.run(
        snakemake(folder, *arguments), capture_output=True, text=True, cwd=folder, timeout=1500
    )
    text = done.stdout + done.stderr
    if done.returncode:
        pytest.fail(text[-5000:])
    return text
