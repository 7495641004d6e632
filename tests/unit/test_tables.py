"""Collating the runs' scores beside the paper's, and the page of the result."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from decur.artifacts.paths import Cell, Paths, Run
from decur.config import Config
from decur.config.experiments import KINDS as DECLARED_KINDS
from decur.config.experiments import Experiment, column_parts, transfer_runs
from decur.errors import DecurError
from decur.tables.experiment_kinds import KINDS
from decur.tables.latex import as_latex
from decur.tables.markdown import as_markdown
from decur.tables.paper import paper_numbers
from decur.tables.results import _mark, collate, results_page, side_by_side
from decur.tables.run import write_experiment
from tests.support.latex import check_tabulars
from tests.support.tables import BIGEARTHNET, DECUR, config, experiment, put, put_all


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path), "small")


def put_decur(paths: Paths, *scores: float) -> list[Path]:
    """DeCUR's linear results on BigEarthNet, a seed each."""
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    runs = [str(Run("sar-optical", "decur", seed=seed)) for seed in range(len(scores))]
    return [put(paths, r, cell, map_micro=s) for r, s in zip(runs, scores, strict=True)]


def markdown(frame: pd.DataFrame, wanted: Experiment, settings: Config | None = None) -> str:
    return as_markdown(results_page(frame, wanted, settings or config()))


def cell_of(frame: pd.DataFrame, row: str, protocol: str) -> pd.Series:
    return frame[(frame["row"] == row) & (frame["protocol"] == protocol)].iloc[0]


def test_a_cell_holds_mean_and_sample_deviation_of_the_seeds_beside_the_paper(paths):
    put_decur(paths, 80.0, 81.0, 83.5)
    cell = cell_of(collate(experiment(), config(), paths), "DeCUR", "linear")
    assert cell["ours_mean"] == pytest.approx(81.5)
    assert cell["ours_std"] == pytest.approx(np.std([80, 81, 83.5], ddof=1))
    assert (cell["n"], cell["wanted"]) == (3, 3)
    assert cell["paper"] == 79.4
    assert cell["difference"] == pytest.approx(81.5 - 79.4)


def test_the_papers_number_is_compared_with_ours_in_its_own_metric(paths):
    wanted = experiment(panels=[BIGEARTHNET | {"paper_metric": "map_micro_per_batch"}])
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    for seed, (whole, by_batch) in enumerate(((80.0, 82.0), (81.0, 84.0))):
        run = str(Run("sar-optical", "decur", seed=seed))
        put(paths, run, cell, map_micro=whole, map_micro_per_batch=by_batch)
    frame = collate(wanted, config(), paths)
    found = cell_of(frame, "DeCUR", "linear")
    assert (found["ours_mean"], found["by_paper_metric"], found["paper"]) == (80.5, 83.0, 79.4)
    assert found["difference"] == pytest.approx(83.0 - 79.4)
    text = markdown(frame, wanted)
    assert "80.5 ± 0.7 (n = 2)<br>per batch 83.0<br>paper 79.4 (+3.6)" in text
    assert "Per batch: our number in the paper's metric" in text
    unlike = experiment(panels=[BIGEARTHNET | {"paper_metric": "miou_per_batch"}])
    with pytest.raises(DecurError, match="no metric 'miou_per_batch'"):
        collate(unlike, config(), paths)
    # A panel without numbers of the paper has no need of its metric.
    alone = experiment(panels=[BIGEARTHNET | {"paper": None, "paper_metric": "miou_per_batch"}])
    assert "per batch" not in markdown(collate(alone, config(), paths), alone)


def test_a_panel_may_show_another_split(paths):
    wanted = experiment(panels=[BIGEARTHNET | {"split": "test", "paper": None}])
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    new, old = (str(Run("sar-optical", "decur", seed=seed)) for seed in (0, 1))
    file = put(paths, new, cell, map_micro=80.0)
    tree = json.loads(file.read_text()) | {"splits": {"test": {"map_micro": 70.0}}}
    file.write_text(json.dumps(tree))
    put(paths, old, cell, map_micro=90.0)  # by a version that did not measure it
    found = cell_of(collate(wanted, config(), paths), "DeCUR", "linear")
    assert (found["ours_mean"], found["n"]) == (70.0, 1)
    with pytest.raises(ValidationError, match="split"):
        experiment(panels=[BIGEARTHNET | {"split": "test", "missing": "sar/mean"}])


def test_every_paper_number_asked_for_is_the_one_in_the_csv(paths):
    table = pd.read_csv(paper_numbers())
    table = table[table["table"] == "Table 1 left"].set_index(
        ["method", "label_fraction", "protocol"]
    )
    wanted = experiment(panels=[BIGEARTHNET | {"labels": [1, 100]}])
    frame = collate(wanted, config(), paths)
    assert len(frame) == 16
    for cell in frame.itertuples():
        protocol = {"linear": "linear", "fine-tune": "finetune"}[cell.protocol]
        assert cell.paper == table.loc[(cell.row, f"{cell.labels:g}%", protocol), "value"]


def test_partial_results_are_collated_and_said_to_be_partial(paths):
    put_decur(paths, 80.0)
    frame = collate(experiment(), config(), paths)
    cell = cell_of(frame, "DeCUR", "linear")
    assert (cell["n"], cell["wanted"]) == (1, 3)
    assert math.isnan(cell["ours_std"])
    missing = cell_of(frame, "Barlow Twins", "linear")
    assert missing["n"] == 0 and math.isnan(missing["ours_mean"])
    assert math.isnan(missing["difference"])
    text = markdown(frame, experiment())
    assert "80.0 (n = 1)<br>paper 79.4 (+0.6)" in text
    assert "–<br>paper 78.7" in text
    assert "Incomplete: 1 of 18 results" in text


def test_a_method_that_the_scale_leaves_out_shows_the_papers_number_alone(paths):
    frame = collate(experiment(), config(), paths)
    cell = cell_of(frame, "CLIP", "linear")
    assert (cell["n"], cell["wanted"], cell["paper"]) == (0, 0, 77.4)


def test_a_row_with_its_own_protocol_fills_every_column_with_it(paths):
    cell = str(Cell("bigearthnet", "sar+optical", "linear", 1))
    put(paths, str(Run("sar-optical", "random")), cell, map_micro=55.0)
    frame = collate(experiment(), config(), paths)
    assert cell_of(frame, "Rand. Init.", "linear")["ours_mean"] == 55
    assert cell_of(frame, "Rand. Init.", "fine-tune")["ours_mean"] == 55
    assert "In every column, Rand. Init. uses linear" in markdown(frame, experiment())


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"metrics": {}}', '{"metrics": {"map_micro": NaN}}', '{"metrics": 3}', ""],
)
def test_a_damaged_metrics_file_is_one_line_that_names_it(paths, content):
    (path,) = put_decur(paths, 80.0)
    path.write_text(content)
    with pytest.raises(DecurError, match="map_micro") as caught:
        collate(experiment(), config(), paths)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_metric_that_the_protocol_does_not_measure_is_named_with_those_it_does(paths):
    put_decur(paths, 80.0)
    wanted = experiment(rows=[DECUR], panels=[BIGEARTHNET | {"metrics": ["miou"], "paper": None}])
    with pytest.raises(DecurError, match=r"'miou'.*map_micro.*`metrics`"):
        collate(wanted, config(), paths)


def test_a_result_that_changes_is_read_anew(paths):
    for score in (80.0, 81.0, 82.5):
        put_decur(paths, score)
        frame = collate(experiment(), config(), paths)
        assert cell_of(frame, "DeCUR", "linear")["ours_mean"] == score
        time.sleep(0.02)  # a file system tells no finer times apart


def test_a_missing_modality_is_a_column_of_its_own(paths):
    (path,) = put_decur(paths, 80.0)
    product = json.loads(path.read_text())
    product["missing"] = {"sar": {"mean": {"map_micro": 60.0}, "zeros": {"map_micro": 50.0}}}
    path.write_text(json.dumps(product))
    panels = [BIGEARTHNET | {"protocols": ["linear"], "paper": None}]
    panels += [panels[0] | {"label": s, "missing": s} for s in ("sar/mean", "sar/zeros")]
    wanted = experiment(rows=[DECUR], panels=panels)
    assert collate(wanted, config(), paths)["ours_mean"].tolist() == [80, 60, 50]
    assert len(transfer_runs([wanted], config())[Run("sar-optical", "decur")]) == 1
    path.write_text(json.dumps(product | {"missing": {}}))
    with pytest.raises(DecurError, match="has no number for 'map_micro'"):
        collate(wanted, config(), paths)


@pytest.mark.parametrize("missing", ["dem/mean", "sar/noise", "sar"])
def test_only_a_modality_that_the_model_has_can_be_missing(missing):
    with pytest.raises(ValidationError, match="missing"):
        experiment(panels=[BIGEARTHNET | {"missing": missing}])
    with pytest.raises(ValidationError, match="missing"):
        experiment(panels=[BIGEARTHNET | {"modalities": "sar", "missing": "sar/mean"}])


def test_the_best_of_ours_in_a_column_is_bold(paths):
    put_all(paths, experiment(), config())
    frame = collate(experiment(), config(), paths)
    text = markdown(frame, experiment())
    for protocol in ("linear", "fine-tune"):
        best = frame[frame["protocol"] == protocol]["ours_mean"].max()
        assert f"**{best:.1f}** ± " in text
    assert text.count("| **") == 2


def test_a_suspect_number_of_the_paper_has_one_footnote(paths):
    frame = collate(experiment(), config(), paths)
    assert cell_of(frame, "CLIP", "linear")["flag"].startswith("SUSPECT")
    assert (frame[frame["row"] != "CLIP"]["flag"] == "").all()
    text = markdown(frame, experiment())
    assert "paper 77.4<sup>a</sup>" in text and "paper 78.7<sup>a</sup>" in text
    assert text.count("\n<sup>a</sup> The paper's number is suspect: SimCLR-cross") == 1


HARBOUR = {"samples": 198, "left_out": 2, "classes": 3, "absent_classes": ["ice *or* <b>snow"]}


def put_evaluated(paths: Paths, wanted: Experiment, untrained: dict[int, list[str]]) -> None:
    """All runs, with what their labels lack; `untrained` by seed."""
    put_all(paths, wanted, config())
    for run, cells in transfer_runs([wanted], config()).items():
        for cell in cells:
            path = Path(paths.metrics(str(run), str(cell)))
            found = json.loads(path.read_text())
            found |= {"evaluated": HARBOUR, "untrained_classes": untrained.get(run.seed, [])}
            path.write_text(json.dumps(found))


def test_what_labels_and_samples_lack_is_a_footnote_at_every_such_number(paths):
    wanted = experiment()
    put_evaluated(paths, wanted, {})
    frame = collate(wanted, config(), paths)
    text = markdown(frame, wanted)
    (line,) = [line for line in text.split("\n") if "2 bad evaluation samples" in line]
    mark = line.split(" ")[0]
    assert line.startswith(f"{mark} **2 bad evaluation samples of bigearthnet are left out")
    assert "No evaluation label of bigearthnet contains 1 of 3 classes ('ice or b snow')" in line
    measured = frame[frame["n"] > 0]
    assert len(measured) and text.count(mark) == 1 + len(measured)
    assert "2 bad evaluation samples" in as_latex(results_page(frame, wanted, config()))


def test_classes_that_some_seeds_were_not_trained_on_are_footnotes(paths):
    wanted = experiment()
    put_evaluated(paths, wanted, {0: ["land"]})
    text = markdown(collate(wanted, config(), paths), wanted)
    assert "No training label of 1 of the seeds contains 1 of 3 classes ('land')" in text
    put_evaluated(paths, wanted, {seed: ["land", "ice"] for seed in range(3)})
    text = markdown(collate(wanted, config(), paths), wanted)
    assert "The training labels contain only one class." in text


def test_there_are_more_footnotes_than_letters():
    marks = [_mark(number) for number in range(60)]
    assert len(set(marks)) == 60 and marks[25:28] == [f"<sup>{m}</sup>" for m in ("z", "aa", "ab")]


@pytest.mark.parametrize("source", ["scenes", "samples", "archive"])
def test_only_the_real_archives_numbers_are_called_comparable(paths, source):
    settings = config(source)
    text = markdown(collate(experiment(), settings, paths), experiment(), settings)
    assert "Scale: `small`." in text
    assert ("NOT comparable with the paper's" in text) == (source != "archive")
    assert ("synthetic scenes" in text) == (source == "scenes")


def test_the_tables_are_well_formed_and_at_most_four_results_wide(paths):
    panels = [BIGEARTHNET | {"labels": [1, 100], "label": name} for name in ("S1|S2", "S1")]
    wanted = experiment(panels=panels)
    text = markdown(collate(wanted, config(), paths), wanted)
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        bars = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert bars == {6}
        assert len(table.splitlines()) == 2 + 4


def test_the_latex_says_what_the_markdown_says(paths):
    put_decur(paths, 80.0, 81.0, 83.5)
    put(
        paths,
        str(Run("sar-optical", "barlow-twins")),
        str(Cell("bigearthnet", "sar+optical", "linear", 1)),
        map_micro=70.0,
    )
    page = results_page(collate(experiment(), config(), paths), experiment(), config())
    text = as_latex(page)
    assert check_tabulars(text) == 1
    rows = {line.partition(" & ")[0]: line for line in text.splitlines() if " & " in line}
    below = dict(zip(text.splitlines(), text.splitlines()[1:], strict=False))
    assert rows["DeCUR"] == r"DeCUR & \textbf{81.5} $\pm$ 1.8 & -- \\"
    assert below[rows["DeCUR"]] == (
        r" & {\scriptsize paper 79.4 (+2.1)} & {\scriptsize paper 81.7} \\"
    )
    assert rows["Barlow Twins"] == r"Barlow Twins & 70.0 (n = 1) & -- \\"
    assert r"{\scriptsize paper 77.4\textsuperscript{a}}" in below[rows["CLIP"]]
    notes = [line for line in text.splitlines() if "raggedright" in line]
    assert any(r"\textsuperscript{a} The paper's number is suspect: SimCLR" in n for n in notes)
    assert any("NOT comparable with the paper's" in n for n in notes)
    assert any(r"\textbf{Incomplete: 4 of 18 results" in n for n in notes)


def test_columns_of_narrow_panels_share_a_table():
    narrow = [(name, 100.0, "probe", metric) for name in "abc" for metric in ("common", "unique1")]
    assert [len(table) for table in side_by_side(narrow)] == [4, 2]
    assert column_parts(narrow[0]) == ["a", "common factor"]
    assert column_parts(("a", 1.0, "linear", "miou")) == ["a", "1 % labels", "linear", "mIoU"]


def test_an_experiment_of_other_scenarios_says_so(paths):
    wanted = experiment(panels=[BIGEARTHNET | {"scenario": "rgb-depth"}])
    write_experiment("none", wanted, config(), paths)
    assert "includes none of" in Path(paths.table("none", "md")).read_text()


def test_every_kind_of_experiment_has_its_products_and_its_page():
    assert KINDS.keys() == set(DECLARED_KINDS)
