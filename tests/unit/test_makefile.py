"""The targets of the Makefile: those that touch what is the user's, and the list of all."""

import os
import re
import shutil
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


def test_help_lists_every_target():
    command = ["make", "--silent", "--directory", str(HOME), "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = [re.split("  +", line) for line in done.stdout.splitlines()]
    phony = re.search(r"^\.PHONY: (.+)$", (HOME / "Makefile").read_text(), re.MULTILINE)
    assert phony and [name for name, text in listed if text] == phony[1].split()


def test_clean_keeps_the_environment_and_every_other_result(tmp_path):
    shutil.copy(HOME / "Makefile", tmp_path)
    kept = {".venv/bin/python", "results/mini/a", "docs/index.md", "decur/a.py"}
    removed = {
        "results/demo/a",
        ".snakemake/a",
        ".mypy_cache/a",
        "build/a",
        "docs/_build/a",
        "decur/b/__pycache__/a",
    }
    for name in kept | removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "--silent", "--directory", str(tmp_path), "clean"], check=True)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == kept | {"Makefile"}
