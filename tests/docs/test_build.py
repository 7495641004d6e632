"""The documentation builds without a warning, the reference of the whole package included."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import HOME


def built(folder: Path, builder: str) -> Path:
    """The output of a builder of Sphinx, for which a warning is an error.

    From a copy, since the pages of the reference are written among the others.
    """
    pages = shutil.ignore_patterns("_api", "_build")
    shutil.copytree(HOME / "docs", folder / "docs", ignore=pages)
    for page in ("README.md", "tests/benchmarks/RESULTS.md"):
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / page, folder / page)
    strict = ("--builder", builder, "--fail-on-warning", "--keep-going", "--quiet")
    folders = ("--doctree-dir", folder / "trees", folder / "docs", folder / "out")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, *folders], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


@pytest.mark.slow
def test_no_page_has_a_warning(tmp_path: Path) -> None:
    """Read and resolved, but not written, which takes as long again."""
    built(tmp_path, "dummy")


@pytest.mark.long
def test_the_documentation_builds(tmp_path: Path) -> None:
    html = built(tmp_path, "html")
    assert "dim_common" in (html / "_api/decur.losses.decur.html").read_text()
    front = (html / "readme.html").read_text()
    assert "_images/scenes.png" in front and 'class="mermaid"' in front
