"""A throw-away SLURM for the tests, and Snakemake on it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slurm import HERE

CONFIG = Path("/etc/slurm/slurm.conf")
"""Of the throw-away cluster: jobs find it there alone."""


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
