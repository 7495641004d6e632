"""`make profiles` links the profile, and replaces nothing that it did not make."""

import os
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
PROFILE = HOME / "profiles" / "slurm"


def make_profiles(folder, **variables):
    command = ["make", "--silent", "--directory", str(HOME), "profiles"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("home", ["home", "a home"])
def test_the_link_is_made_and_made_again(tmp_path, home):
    for _ in range(2):
        assert make_profiles(tmp_path / home).returncode == 0
    folder = tmp_path / home / ".config" / "snakemake"
    assert (folder / "slurm").readlink() == PROFILE
    assert [path.name for path in folder.iterdir()] == ["slurm"]


def test_the_folder_of_settings_may_be_elsewhere(tmp_path):
    assert make_profiles(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "x")).returncode == 0
    assert (tmp_path / "x" / "snakemake" / "slurm").readlink() == PROFILE


@pytest.mark.parametrize("theirs", ["folder", "link", "link to nothing", "file"])
def test_what_the_user_has_there_stays(tmp_path, theirs):
    link = tmp_path / ".config" / "snakemake" / "slurm"
    link.parent.mkdir(parents=True)
    (tmp_path / "own").mkdir()
    if theirs == "folder":
        link.mkdir()
    elif theirs == "file":
        link.touch()
    else:
        link.symlink_to(tmp_path / ("own" if theirs == "link" else "gone"))
    before = sorted(map(str, tmp_path.rglob("*"))), link.is_symlink() and link.readlink()
    done = make_profiles(tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"{link} is not a link to this profile: move it, or use")
    assert all(line.startswith("make: ") for line in rest)
    assert (sorted(map(str, tmp_path.rglob("*"))), link.is_symlink() and link.readlink()) == before
