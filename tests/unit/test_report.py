"""The report of whatever results there are."""

import base64
import json
import re
from pathlib import Path

import pytest

from decur.artifacts.paths import Paths
from decur.config import Config, load_config
from decur.config.experiments import Experiment, chosen_experiments, load_experiments
from decur.errors import DecurError
from decur.tables.html import as_html
from decur.tables.report import section_of, write_report
from decur.tables.run import outputs, write_experiment
from decur.tables.usage import StageUsage, stage_usage, usage_page

HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(HOME / "config" / "demo.yaml")


@pytest.fixture(scope="module")
def experiments(config: Config) -> dict[str, Experiment]:
    return chosen_experiments(load_experiments(HOME / "config" / "experiments.yaml"), config)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path), "demo")


def headings(page: str, level: int) -> list[str]:
    return re.findall(rf"<h{level}[^>]*>(.*?)</h{level}>", page)


def written(experiments: dict[str, Experiment], config: Config, paths: Paths) -> str:
    write_report(experiments, config, paths)
    return Path(paths.report()).read_text()


def test_scenarios_come_first_then_ablations_and_explainability(experiments, config, paths):
    found = [heading.split(". ")[1] for heading in headings(written(experiments, config, paths), 2)]
    assert found[:4] == ["What was run", "SAR-optical", "RGB-DEM", "RGB-depth"]
    assert found[-1] == "What it cost"
    assert found.index("Several scenarios") < found.index("Explainability")


def test_every_experiment_has_its_place_made_or_not(experiments, config, paths):
    table = experiments["table1"]
    write_experiment("table1", table, config, paths)
    page = written(experiments, config, paths)
    shown = headings(page, 3)
    assert len(shown) == len(experiments)
    assert table.title in shown
    assert "table2" in shown
    assert page.count("Not collated yet.") == len(experiments) - 1


def test_tables_are_tables_and_their_files_are_inside(experiments, config, paths):
    write_experiment("table1", experiments["table1"], config, paths)
    page = written({"table1": experiments["table1"]}, config, paths)
    assert "<td>DeCUR</td>" in page or '<td style="text-align: left;">DeCUR</td>' in page
    found = re.search(r'<a download="table1.csv" href="data:text/csv;base64,([^"]*)"', page)
    assert found
    made = Path(outputs("table1", experiments["table1"], paths)["csv"])
    assert base64.b64decode(found[1]) == made.read_bytes()


def test_a_table_of_an_earlier_version_is_replaced_by_what_to_do(experiments, config, paths):
    write_experiment("factors", experiments["factors"], config, paths)
    record = Path(outputs("factors", experiments["factors"], paths)["json"])
    tree = json.loads(record.read_text())
    del tree["page"]
    record.write_text(json.dumps(tree))
    page = written({"factors": experiments["factors"]}, config, paths)
    assert headings(page, 3) == ["factors"]
    assert "another version of decur: run <code>decur tables</code>" in page
    assert 'src="data:image/png;base64,' in page and 'download="factors.csv"' in page


def test_a_report_is_replaced_by_the_next_one_and_nothing_else_is(experiments, config, paths):
    first = written({}, config, paths)
    assert written({}, config, paths) == first
    Path(paths.report()).write_text("mine")
    with pytest.raises(DecurError, match="exists and was not written by decur"):
        write_report({}, config, paths)


def test_no_text_of_an_experiment_is_a_tag_of_the_report(experiments, config, paths):
    hostile = experiments["table1"].model_copy(
        update={"title": "<script>1</script>", "caption": "a <b>bold</b> `claim` & more"}
    )
    write_experiment("table1", hostile, config, paths)
    page = written({"table1": hostile}, config, paths)
    assert "<script" not in page and "<b>" not in page
    assert "a &lt;b&gt;bold&lt;/b&gt; <code>claim</code> &amp; more" in page


def test_figures_are_inside_and_nothing_is_fetched(experiments, config, paths):
    write_experiment("factors", experiments["factors"], config, paths)
    page = written({"factors": experiments["factors"]}, config, paths)
    assert 'src="data:image/png;base64,' in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_an_experiment_of_one_scenario_is_shown_with_it(experiments, config):
    assert section_of(experiments["table1"], config) == "SAR-optical"
    assert section_of(experiments["gallery-nyuv2"], config) == "RGB-depth"
    assert section_of(experiments["missing-modality"], config) == "Several scenarios"
    assert section_of(experiments["factors"], config) == "Explainability"


def test_what_is_not_the_papers_data_is_said_at_the_top(experiments, config, paths):
    page = written({}, config, paths)
    assert "NOT comparable" in page
    assert page.index("NOT comparable") < page.index("What it cost</h2>")


def test_costs_are_sums_over_the_benchmarks_of_a_stage(tmp_path):
    for name, line in {
        "pretrain/a.tsv": "10.5\t0:00:10\t1000.5\t20.0",
        "pretrain/b.tsv": "1.5\t0:00:01\t50\t2.0",
        "transfer-2/a.tsv": "3\t0:00:03\t-\t-",
    }.items():
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{line}\n")
    assert stage_usage(tmp_path) == [
        StageUsage("pretrain", 2, 22.0, 12.0, 1000.5),
        StageUsage("transfer", 1, 0.0, 3.0, 0.0),
    ]


def test_the_costs_of_all_stages_are_added_up():
    stages = [
        StageUsage("pretrain", 2, 3600, 1800, 2048),
        StageUsage("transfer", 3, 3600, 0, 1024),
    ]
    last = as_html(usage_page(stages)).rpartition("<tr>")[2]
    assert re.findall(r"<td[^>]*>(.*?)</td>", last) == [
        "<strong>all</strong>",
        "5",
        "2.00",
        "0.50",
        "2.00",
    ]
    assert "Nothing has been measured" in as_html(usage_page([]))
