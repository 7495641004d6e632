"""`decur tables` on the results folder of a scale."""

from pathlib import Path

import pytest
import yaml

from decur.artifacts.paths import Cell, Paths, Run
from decur.cli import main
from tests.support.tables import BIGEARTHNET, DECUR, config, put


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The results folder of a scale whose workflow has begun, under a name of its own."""
    folder = tmp_path / "elsewhere" / "renamed"
    folder.mkdir(parents=True)
    settings = config("archive", experiments=["one", "two"])
    (folder / "config.json").write_text(settings.model_dump_json())
    tree = {"title": "Transfer", "caption": "mAP.", "rows": [DECUR], "panels": [BIGEARTHNET]}
    declared = {"one": tree, "two": tree | {"title": "Again"}, "three": tree}
    (folder / "experiments.yaml").write_text(yaml.safe_dump(declared))
    return folder


def test_a_results_folder_alone_is_collated_whatever_there_is(begun, capsys, monkeypatch):
    monkeypatch.chdir(begun.parent)
    assert main(["tables", "renamed"]) == 0
    assert capsys.readouterr().out.split() == ["renamed/tables/one.md", "renamed/tables/two.md"]
    assert "–<br>paper 79.4" in (begun / "tables" / "one.md").read_text()
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    run = str(Run("sar-optical", "decur"))
    put(Paths(str(begun.parent), "renamed"), run, cell, map_micro=80.0)
    assert main(["tables", "renamed", "--only", "one"]) == 0
    assert "80.0 (n = 1)<br>paper 79.4" in (begun / "tables" / "one.md").read_text()
    assert "80.0" not in (begun / "tables" / "two.md").read_text()


def test_experiments_declared_elsewhere_can_be_collated(begun, tmp_path):
    tree = yaml.safe_load((begun / "experiments.yaml").read_text())
    tree["one"]["title"] = "Another"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    given = ["--experiments", str(tmp_path / "mine.yaml")]
    assert main(["tables", str(begun), *given]) == 0
    assert "# Another" in (begun / "tables" / "one.md").read_text()


@pytest.mark.parametrize("absent", ["config.json", "experiments.yaml"])
def test_before_the_workflow_has_begun_one_line_says_so(begun, capsys, absent):
    (begun / absent).unlink()
    assert main(["tables", str(begun)]) == 1
    said = capsys.readouterr().err
    assert f"{absent}: not found" in said and said.count("\n") == 1


def test_an_experiment_that_the_scale_lacks_is_one_line(begun, capsys):
    assert main(["tables", str(begun), "--only", "three"]) == 1
    assert (
        "--only three: not an experiment of the scale; choose from one, two"
        in capsys.readouterr().err
    )


def test_finished_tables_are_shown_as_they_are(begun, capsys):
    assert main(["tables", str(begun), "--only", "two"]) == 0
    (begun / "config.json").touch()
    before = {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
    capsys.readouterr()
    assert main(["tables", str(begun), "--show"]) == 0
    first, second = capsys.readouterr().out.split("Again\n")
    assert "one\n" in first and "Not collated yet." in first
    assert "paper 79.4" in second and "DeCUR" in second and "\x1b" not in second
    assert before == {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
