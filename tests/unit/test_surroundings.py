"""What surrounds a command: locale, backends, shells, encodings of the user's lists."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from decur.artifacts import provenance
from decur.cli import main
from decur.config import parse_config
from decur.datasets.folder_lists import images_by_name, read_column
from decur.errors import DecurError
from decur.pretrain import loop as pretrain

HOME = Path(__file__).parents[2]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def results_of_a_scale(folder: Path) -> Path:
    """A scale in which nothing has run yet: every table has dashes and signs beyond ASCII."""
    tree = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8"))
    config = parse_config({**tree, "results": str(folder)}, "tiny")
    root = folder / "tiny"
    root.mkdir()
    (root / "config.json").write_text(config.model_dump_json(), encoding="utf-8")
    shutil.copy(HOME / "config" / "experiments.yaml", root / "experiments.yaml")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [ASCII, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {"MPLBACKEND": "?"}],
)
def test_tables_and_report_do_not_depend_on_locale_or_backend(tmp_path, more):
    root = results_of_a_scale(tmp_path)
    for verb in ("tables", "report"):
        command = [sys.executable, "-m", "decur", verb, str(root)]
        done = subprocess.run(command, env=os.environ | more, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "–" in "".join(p.read_text(encoding="utf-8") for p in (root / "tables").glob("*.md"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000)), unique=True, max_size=50))
def test_every_seed_and_step_draws_something_else(pairs):
    seeds = [pretrain._seed_of(seed, step) for seed, step in pairs]
    assert len(set(seeds)) == len(pairs)
    for seed in seeds[:3]:
        torch.manual_seed(seed)


def test_the_commit_is_that_of_our_own_checkout_only(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    installed = tmp_path / "env" / "site-packages" / "decur"
    for package in (installed, tmp_path / "decur"):
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("", encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*git, "add", "decur"], check=True)
    subprocess.run([*git, "commit", "-qm", "own"], check=True)

    def commit(package: Path) -> str | None:
        provenance.git_commit.cache_clear()
        monkeypatch.setattr(provenance.decur, "__file__", str(package / "__init__.py"))
        return provenance.git_commit()

    try:
        assert commit(installed) is None  # in a repository, but not of it
        assert commit(tmp_path / "decur")
    finally:
        monkeypatch.undo()
        provenance.git_commit.cache_clear()


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", "", "²"])
def test_a_count_that_is_none_is_named(tmp_path, capsys, count):
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(tmp_path), "--threads", count])
    assert ended.value.code == 2
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_a_seed_below_zero_and_no_slurm_are_no_bugs(tmp_path, capsys, monkeypatch):
    tree = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text(encoding="utf-8"))
    config = parse_config({**tree, "results": str(tmp_path)}, "tiny")
    (tmp_path / "c.yaml").write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    monkeypatch.setenv("PATH", "/nowhere")
    command = ["submit", "pretrain", "sar-optical/decur/default/seed-0", "--configfile"]
    assert main([*command, str(tmp_path / "c.yaml"), "--no-follow"]) == 1
    told = capsys.readouterr().err
    assert "SLURM not found" in told and "bug" not in told


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_lists_are_read_in_unicode_whatever_its_form(tmp_path, encoding):
    path = tmp_path / "labels.csv"
    text = "id,label\r\nWiese_Süd,Wälder\r\n"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path.write_bytes((mark + text).encode(encoding))
    assert read_column(path, "label") == {"Wiese_Süd": "Wälder"}


@pytest.mark.parametrize("data", ["id,label\nWiese_Süd,a\n".encode("latin-1"), b"id,label\n\0\xff"])
def test_lists_in_other_encodings_are_refused_with_the_remedy(tmp_path, data):
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    with pytest.raises(DecurError, match=r"labels\.csv: .*UTF-8"):
        read_column(path, "label")


def test_images_in_linked_folders_are_found_and_broken_links_named(tmp_path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "a.png").write_bytes(b"")
    own = tmp_path / "own"
    own.mkdir()
    (own / "linked").symlink_to(tmp_path / "elsewhere")
    assert list(images_by_name(own)) == ["linked/deep/a"]
    (own / "circle").symlink_to(own)
    with pytest.raises(DecurError, match="circle: "):
        images_by_name(own)
    (own / "circle").unlink()
    (own / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DecurError, match=r"b\.png: .*gone\.png"):
        images_by_name(own)
