"""The documentation builds without a warning, the reference of the whole package included."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import HOME


@pytest.mark.slow
def test_the_documentation_builds(tmp_path: Path) -> None:
    """From a copy, since the pages of the reference are written among the others."""
    pages = shutil.ignore_patterns("_api", "_build")
    shutil.copytree(HOME / "docs", tmp_path / "docs", ignore=pages)
    for page in ("README.md", "tests/benchmarks/RESULTS.md"):
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / page, tmp_path / page)
    strict = ("--fail-on-warning", "--keep-going", "--quiet")
    folders = ("--doctree-dir", tmp_path / "trees", tmp_path / "docs", tmp_path / "html")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, *folders], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "dim_common" in (tmp_path / "html/_api/decur.losses.decur.html").read_text()
    front = (tmp_path / "html/readme.html").read_text()
    assert "_images/scenes.png" in front and 'class="mermaid"' in front
