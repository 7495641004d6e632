"""The files of an experiment: equal results give equal bytes, and nobody else's are replaced."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from decur.artifacts.paths import Cell, Paths, Run
from decur.config.experiments import entries
from decur.config.methods import METHODS
from decur.errors import DecurError
from decur.tables.figures import OTHER, STYLES, style_of
from decur.tables.results import collate, results_page
from decur.tables.run import outputs, read_page, write_experiment
from tests.support.tables import (
    BIGEARTHNET,
    GEONRW,
    config,
    curve,
    experiment,
    image,
    put,
    put_all,
)

PROBE = {"protocols": ["probe"], "metrics": ["common", "unique1"], "labels": [100], "paper": None}
PROBES = {
    "panels": [
        BIGEARTHNET | PROBE | {"label": "SAR", "modalities": "sar"},
        GEONRW | PROBE | {"label": "RGB", "modalities": "rgb"},
    ]
}

EXPERIMENTS = {
    "table": experiment(),
    "shares": curve({25: "common-25", 75: "common-75", 100: "common-100"}),
    "projector": curve({0: "no-projector", 32: "dim-32", 64: "dim-64"}, seeds=1),
    "probes": experiment(**PROBES),
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path), "small")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_equal_results_give_identical_files(paths, name):
    wanted = EXPERIMENTS[name]
    put_all(paths, wanted, config())
    made = outputs(name, wanted, paths)
    write_experiment(name, wanted, config(), paths)
    first = {path: Path(path).read_bytes() for path in made.values()}
    write_experiment(name, wanted, config(), paths)
    assert first == {path: Path(path).read_bytes() for path in made.values()}
    folders = {Path(path).parent for path in made.values()}
    assert {str(p) for folder in folders for p in folder.iterdir()} == set(made.values())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_page_that_was_written_is_read_back(paths, name):
    wanted = EXPERIMENTS[name]
    put_all(paths, wanted, config("archive"))
    write_experiment(name, wanted, config("archive"), paths)
    frame = collate(wanted, config("archive"), paths)
    assert read_page(name, paths) == results_page(frame, wanted, config("archive"))


def test_where_there_is_no_page_one_sentence_says_why(paths):
    assert read_page("table", paths).body == ("Not collated yet.",)
    write_experiment("table", experiment(), config(), paths)
    record = Path(paths.table("table", "json"))
    tree = json.loads(record.read_text())
    for other in ({}, {"page": None}, {"page": {"title": "T", "body": [{"rows": 3}]}}):
        earlier = {key: value for key, value in tree.items() if key != "page"} | other
        record.write_text(json.dumps(earlier))
        (reason,) = read_page("table", paths).body
        assert "another version" in reason and "decur tables" in reason
    write_experiment("table", experiment(), config(), paths)
    assert json.loads(record.read_text()) == tree
    record.write_text("{")
    with pytest.raises(DecurError, match=r"table\.json: is damaged"):
        read_page("table", paths)


@pytest.mark.parametrize("kind", ["csv", "md", "tex", "json", "figure", "vector"])
def test_a_file_of_somebody_else_is_never_replaced(paths, kind):
    wanted = EXPERIMENTS["probes"]
    put_all(paths, wanted, config())
    path = Path(outputs("probes", wanted, paths)[kind])
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(DecurError, match=re.escape(path.name)):
        write_experiment("probes", wanted, config(), paths)
    assert [p for p in Path(paths.root).rglob("*") if p.stem == "probes"] == [path]
    path.unlink()
    write_experiment("probes", wanted, config(), paths)
    if kind != "json":  # which is the record itself
        path.write_bytes(path.read_bytes() + b" edited")
        with pytest.raises(DecurError, match="or was changed since"):
            write_experiment("probes", wanted, config(), paths)
        assert path.read_bytes().endswith(b" edited")


def test_the_csv_has_four_decimals_and_every_cell(paths):
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    for seed, score in enumerate((80.0, 81.0)):
        put(paths, str(Run("sar-optical", "decur", seed=seed)), cell, map_micro=score)
    write_experiment("table", experiment(), config("archive"), paths)
    lines = Path(paths.table("table", "csv")).read_text().splitlines()
    assert len(lines) == 1 + len(entries(experiment(), config("archive")))
    line = next(line for line in lines if line.startswith("DeCUR,,S1+S2,1.0000,linear"))
    assert line.endswith(",map_micro,80.5000,0.7071,2,3,,,79.4000,1.1000,,")


def test_the_papers_numbers_stand_beside_ours_only_on_its_data(paths):
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    put(paths, "sar-optical/decur/default/seed-0", cell, map_micro=80.0)
    for source, quoted, rows in (
        ("archive", True, ["Rand. Init.", "CLIP", "Barlow Twins", "DeCUR"]),
        ("scenes", False, ["Rand. Init.", "Barlow Twins", "DeCUR"]),  # CLIP is not in the scale
        ("samples", False, ["Rand. Init.", "Barlow Twins", "DeCUR"]),
    ):
        write_experiment("table", experiment(), config(source), paths)
        text = Path(paths.table("table", "md")).read_text()
        assert ("paper 79.4" in text) == quoted == ("suspect" in text)
        frame = pd.read_csv(paths.table("table", "csv"))
        assert list(dict.fromkeys(frame["row"])) == rows
        assert frame["paper"].notna().any() == quoted


def test_curves_and_probes_are_drawn_and_tables_are_not(paths):
    kinds = {name: outputs(name, wanted, paths).keys() for name, wanted in EXPERIMENTS.items()}
    drawn = {name for name in kinds if {"figure", "vector"} <= kinds[name]}
    assert all({"csv", "md", "tex", "json"} <= found for found in kinds.values())
    assert drawn == {"shares", "projector", "probes"}


@pytest.mark.parametrize(
    "changes", [{"metrics": ["common"]}, {"labels": [1, 100]}, {"protocols": ["probe", "knn"]}]
)
def test_probes_that_are_no_pair_of_accuracies_are_a_table_alone(paths, changes):
    (panel, *_) = EXPERIMENTS["probes"].model_dump()["panels"]
    wanted = experiment(**PROBES | {"panels": [panel | changes]})
    write_experiment("other", wanted, config(), paths)
    assert {"csv", "md", "tex", "json"} == outputs("other", wanted, paths).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shares", "projector", "probes"])
def test_a_figure_shows_its_results_and_is_legible_without_any(paths, name):
    wanted = EXPERIMENTS[name]
    write_experiment(name, wanted, config(), paths)
    empty = image(paths.figure(name))
    put_all(paths, wanted, config())
    write_experiment(name, wanted, config(), paths)
    full = image(paths.figure(name))
    assert min(full.shape) > 500
    assert (empty < 128).sum() > 1000
    assert (full < 200).sum() > (empty < 200).sum()


def test_the_letters_of_a_vector_figure_are_letters_and_no_time_is_in_it(paths):
    wanted = EXPERIMENTS["probes"]
    put_all(paths, wanted, config())
    write_experiment("probes", wanted, config(), paths)
    text = Path(paths.figure("probes", "svg")).read_text()
    assert ">Barlow Twins</text>" in text and ">common factor [%]</text>" in text
    assert "<dc:date>" not in text


def test_every_method_has_a_style_of_its_own():
    styles = [STYLES[method] for method in METHODS if method in STYLES]
    assert style_of("a method without one") == OTHER
    assert len({s.colour for s in styles}) == len({s.marker for s in styles}) == len(styles)


def test_asking_for_the_outputs_loads_nothing_heavy():
    code = (
        "import sys, decur.tables.run; "
        "print(sorted({'torch', 'pandas', 'matplotlib', 'numpy', 'scipy', 'jinja2', 'rich'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
