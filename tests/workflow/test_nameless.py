"""The workflow as a user who has a number but no name, as containers are run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import HOME, TINY
from tests.support.workflow import command

NUMBER = 12345
WEIGHTS = "results/tiny/pretrain/rgb-dem/random/default/seed-0/weights.safetensors"
READ = "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"
"""The user may read what root may: Python and this checkout lie where only root can."""


def as_nobody(folder, home, *words):
    """Run a command as a user without a name in a folder that is theirs; `home` may be None."""
    numbers = f"--reuid={NUMBER}", f"--regid={NUMBER}", "--clear-groups"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
    variables["TMPDIR"] = str(folder / "tmp")
    if home is not None:
        variables["HOME"] = str(home)
    return subprocess.run(
        ["setpriv", *numbers, *READ, *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def folder():
    """A folder of that user's, not below those of tests, which only root may enter."""
    with tempfile.TemporaryDirectory(prefix="decur-test-") as name:
        path = Path(name)
        (path / "tmp").mkdir()
        try:
            os.chown(path, NUMBER, NUMBER)
            os.chown(path / "tmp", NUMBER, NUMBER)
            tried = as_nobody(path, None, sys.executable, "-c", "import decur")
        except OSError as error:
            pytest.skip(f"needs root and setpriv ({error})")
        if tried.returncode:
            pytest.skip(f"needs leave to become another user ({tried.stderr})")
        yield path


def test_the_workflow_needs_no_name_of_its_user(folder):
    done = as_nobody(folder, folder, *command(folder, "--configfile", TINY, "--", WEIGHTS))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / WEIGHTS).stat().st_uid == NUMBER


@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_a_stage_needs_neither_name_nor_home_and_makes_no_folder_of_that_name(folder, home):
    """Claims ask for the name, matplotlib and its fonts for the home."""
    draw = (
        "import getpass; from decur.cli import main; main(['completion', 'bash']); "
        "import matplotlib.pyplot as plt; plt.figure().savefig('a.png'); print(getpass.getuser())"
    )
    done = as_nobody(folder, home, sys.executable, "-c", draw)
    assert done.stdout.endswith(f"{NUMBER}\n") and done.stderr == ""
    assert {path.name for path in folder.iterdir()} == {"a.png", "tmp"}
