"""The generated page of which run reproduces what of the paper; nothing is left out.

python -m tests.docs.test_coverage --update
"""

import csv
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from decur.config import Config, parse_config
from decur.config.experiments import (
    METRIC_NAMES,
    Entry,
    Experiment,
    chosen_experiments,
    entries,
    load_experiments,
)
from decur.config.yaml_file import read_yaml
from decur.tables.paper import paper_key, paper_numbers
from tests.support import HOME

PAGE = HOME / "docs" / "coverage.md"
HEAD = """# Coverage: the paper's tables and figures, and our runs

Every table and figure of the paper ([arXiv 2309.05300](https://arxiv.org/abs/2309.05300), second
version), and for every number of its tables the run whose result stands beside it in
`results/paper/tables`. You give the files of ImageNet's weights where they are needed
([how](tables.md)). This page is generated (`python -m tests.docs.test_coverage --update`) from
`config/paper.yaml` and `config/experiments.yaml`, and a test fails if a number has no run.

"""
FIGURES = {
    "1": ("fig1", "t-SNE of the embedding dimensions"),
    "2": (None, "a drawing of the method"),
    "3a": ("fig3a", "share of common dimensions"),
    "3b": ("fig3b", "dimensions of the projector"),
    "4a": ("fig4a", "alignment across modalities"),
    "4b": ("fig4b", "Grad-CAM"),
    "5, left": ("fig5-spatial", "spatial saliency of both modalities"),
    "5, right": ("fig5-spectral", "spectral saliency"),
    "6": ("fig6", "share of common dimensions, embedding of 512"),
    "7": ("fig7", "dimensions of the projector, BigEarthNet-MM"),
    "8": ("fig4a", "alignment of four batches"),
    "9": ("fig1", "t-SNE of four batches"),
    "10": ("fig4b", "Grad-CAM of four pairs"),
}
"""By figure of the paper: our experiment, and what it shows. Nobody has to reproduce a drawing."""

QUOTED = {"SA-Gate", "SGNet", "ShapeConv", "OMNIVORE"}
"""Rows of table 3 that the paper itself quotes from others."""

DEVIATIONS = {
    "bigearthnet": "the number compared is a mean over batches of 64, as the paper's, but the "
    "batch norms of frozen backbones stay as they are",
    "geonrw": "whole tiles in place of random crops of the test set, one channel of elevation, all "
    "7,298 official training tiles but those that a test city has too",
    "sun-rgbd": "the FCN's code is not published, nor CMX's settings for SUN-RGBD",
    "nyuv2": "the FCN's code is not published; the scales of CMX's evaluation are not given",
}
"""By dataset: where we knowingly differ; docs/differences.md has all."""


class Number(NamedTuple):
    """A number of the paper's tables: its row in the CSV, and the cells of ours beside it."""

    row: Mapping[str, str]
    ours: list[tuple[str, Entry]]


def paper_scale() -> tuple[Config, dict[str, Experiment]]:
    """The scale of the paper, as if the files of ImageNet weights were given."""
    tree = read_yaml(HOME / "config" / "paper.yaml")
    for scenario in tree["scenarios"].values():
        scenario["pretrain"] |= {"imagenet": "given", "imagenet_large": "given"}
    config = parse_config(tree)
    return config, chosen_experiments(load_experiments(HOME / "config/experiments.yaml"), config)


def numbers() -> Iterator[Number]:
    """Every number of the paper's tables, in their order."""
    config, experiments = paper_scale()
    ours: dict[tuple[str, ...], list[tuple[str, Entry]]] = {}
    for name, experiment in experiments.items():
        for entry in entries(experiment, config):
            if entry.panel.paper and entry.row.paper:
                ours.setdefault(paper_key(entry), []).append((name, entry))
    with paper_numbers().open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["table"].startswith("Table"):
                key = ("table", "method", "label_fraction", "protocol", "metric")
                yield Number(row, ours.get(tuple(row[k] for k in key), []))


def page() -> str:
    """The page, from what the experiments declare."""
    lines = ["## Figures", "", "| figure | shows | experiment | rows | scenarios | protocol |"]
    lines.append("|---|---|---|---|---|---|")
    _, experiments = paper_scale()
    for number, (name, shows) in FIGURES.items():
        lines.append(_figure(number, shows, name, experiments))
    for table, found in groupby(numbers(), key=lambda n: n.row["table"]):
        cells = list(found)
        datasets = {entry.cell.dataset for n in cells for _, entry in n.ours}
        lines += ["", f"## {table}", ""]
        lines += ["Where we differ ([all differences](differences.md)):", ""]
        lines += [f"- `{name}`: {DEVIATIONS[name]}." for name in sorted(datasets)] + [""]
        lines += ["| the paper's row | run (seed 0) | labels, protocol | metric | numbers |"]
        lines += ["|---|---|---|---|---:|"]
        for method, of_row in groupby(cells, key=lambda n: n.row["method"]):
            lines.append(_row(method, list(of_row)))
    return HEAD + "\n".join(lines) + "\n"


def _figure(number: str, shows: str, name: str | None, experiments: dict[str, Experiment]) -> str:
    if name is None:
        return f"| {number} | {shows} | none | | | |"
    experiment = experiments[name]
    rows = ", ".join(row.label for row in experiment.rows)
    scenarios = ", ".join(dict.fromkeys(panel.scenario for panel in experiment.panels))
    kinds = {p for panel in experiment.panels for p in panel.protocols}
    protocol = ", ".join(sorted(kinds)) if experiment.explainer is None else "none is needed"
    return f"| {number} | {shows} | `{name}` | {rows} | {scenarios} | {protocol} |"


def _row(method: str, found: list[Number]) -> str:
    ours = [entry for number in found for _, entry in number.ours if entry.runs]
    if not ours:
        return f"| {method} | quoted by the paper, not run | | | {len(found)} |"
    runs = ", ".join(dict.fromkeys(f"`{entry.runs[0]}`" for entry in ours))
    cells = dict.fromkeys(f"{e.cell.labels:g} % {e.cell.protocol}" for e in ours)
    metrics = dict.fromkeys(METRIC_NAMES[e.paper_metric or e.metric] for e in ours)
    return f"| {method} | {runs} | {', '.join(cells)} | {', '.join(metrics)} | {len(found)} |"


def test_every_number_of_the_paper_has_a_run_or_is_quoted_there():
    without = {n.row["method"] for n in numbers() if not any(entry.runs for _, entry in n.ours)}
    assert without == QUOTED
    assert sum(1 for _ in numbers()) == 161


def test_every_figure_of_the_paper_has_an_experiment():
    _, experiments = paper_scale()
    assert {name for name, _ in FIGURES.values() if name} <= experiments.keys()
    assert {figure.partition(",")[0].rstrip("ab") for figure in FIGURES} == {
        str(number) for number in range(1, 11)
    }


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    if "--update" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
