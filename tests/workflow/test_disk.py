"""A disk that is full, and then is not."""

import os
import subprocess

import pytest

from tests.support import TINY
from tests.support.workflow import snakemake

WEIGHTS = "results/tiny/pretrain/sar-optical/decur/default/seed-0/weights.safetensors"


@pytest.mark.slow
def test_a_full_disk_is_named_and_with_more_room_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "decur", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs root and leave to mount a file system")
    try:
        words = (folder, "--configfile", TINY, "--", WEIGHTS)
        full = snakemake(*words, check=False)
        assert full.returncode != 0
        reason = [line for line in full.stderr.splitlines() if line.startswith("decur: error")]
        assert "No space left" in reason[-1]
        subprocess.run(["mount", "-o", "remount,size=1g", folder], check=True)
        snakemake(*words)
        assert (folder / WEIGHTS).is_file()
    finally:
        subprocess.run(["umount", folder], check=True)
