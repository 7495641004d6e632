"""The documentation builds without a warning, the reference of the whole package included."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import HOME


@pytest.mark.slow
def test_the_documentation_builds(tmp_path: Path) -> None:
    strict = ("--fail-on-warning", "--keep-going", "--quiet")
    folders = ("--doctree-dir", tmp_path / "trees", HOME / "docs", tmp_path / "html")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, *folders], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "torch.Tensor" in (tmp_path / "html/_api/decur.losses.decur.html").read_text()
    front = (tmp_path / "html/readme.html").read_text()
    assert "_images/scenes.png" in front and 'class="mermaid"' in front
