"""Run Snakemake on a throw-away SLURM, and ask SLURM."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from tests.support import HOME

HERE = HOME / "tests" / "slurm"
PROFILE = HOME / "profiles" / "slurm-test"

Found = TypeVar("Found")


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


def run(
    folder: Path, *arguments: object, env: Mapping[str, str] | None = None, minutes: int = 25
) -> str:
    """Run the workflow to its end, for so many minutes at most; returns what it printed."""
    words = snakemake(folder, *arguments)
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=folder,
        env=env,
        timeout=60 * minutes,
        check=False,
    )
    text = done.stdout + done.stderr
    if done.returncode:
        pytest.fail(text[-5000:])
    return text


@contextmanager
def other_site(name: str, folder: Path) -> Iterator[None]:
    """Within the block, run a cluster of tests/slurm/sites in place of the one before."""
    subprocess.run([HERE / "start", folder, HERE / "sites" / f"{name}.conf"], check=True)
    try:
        yield
    finally:
        subprocess.run([HERE / "stop", folder], check=True)


def wait_for(find: Callable[[], Found | None], seconds: float = 600) -> Found:
    """What `find` finds at last; the test fails if that takes too long."""
    give_up = time.monotonic() + seconds
    while not (found := find()):
        if time.monotonic() > give_up:
            pytest.fail(f"waited {seconds:g} s in vain\n{output('squeue')}")
        time.sleep(0.2)
    return found
