"""The report: one page that reads like the paper's section of results, and opens without a network.

Everything in it is read from the results of a scale: its tables and figures, made or not, what was
trained, and what that cost.
"""

import base64
import csv
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from decur.artifacts.ownership import write_ours
from decur.artifacts.paths import Paths
from decur.config import Config, Scenario
from decur.config.experiments import Experiment, scenario_name
from decur.tables.markdown import as_table
from decur.tables.pages import grid, warning
from decur.tables.run import outputs

STAGES = {"ablations": "Ablations", "explain": "Explainability", "claims": "Claims"}
SEVERAL = "Several scenarios"
TYPES = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "tex": "text/x-tex"}
"""Of what is put into the page whole."""

GENERATOR = '<meta name="generator" content="decur">'

SCALE = 0.45
"""Pixels of the page by pixels of a figure."""

STYLE = """
body { font: 16px/1.5 Georgia, serif; color: #222; max-width: 62rem; margin: 0 auto; padding: 1rem }
h1, h2, h3, nav, table, .small { font-family: system-ui, sans-serif }
h2 { border-bottom: 1px solid #ccc; margin-top: 3rem }
h3 { margin-top: 2.5rem }
nav ul { columns: 2; font-size: 90% }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 85%; margin: 1rem 0 }
th, td { padding: .25rem .6rem; vertical-align: top; text-align: center }
th:first-child, td:first-child { text-align: left }
thead, table { border-bottom: 1.5px solid #222 } thead { border-top: 1.5px solid #222 }
tbody tr:nth-child(even) { background: #f6f6f6 }
img { max-width: 100%; display: block; margin: 1rem auto }
.small { font-size: 80%; color: #555 } .small a { margin-right: 1rem }
@media print { nav { display: none } h3, table, img { break-inside: avoid } }
"""


@dataclass(frozen=True)
class Cost:
    """What the jobs of a stage took, as Snakemake's benchmarks measured them."""

    stage: str
    jobs: int
    cpu_seconds: float
    seconds: float
    largest_mb: float


def write_report(experiments: Mapping[str, Experiment], config: Config, paths: Paths) -> None:
    """Write the report of whatever results there are.

    Raises:
        DecurError: the report's file exists and is not ours.
    """
    sections = [
        ("What was run", what_was_run(config)),
        *((name, "\n".join(parts)) for name, parts in _results(experiments, config, paths)),
        ("What it cost", what_it_cost(costs(Path(paths.root)))),
    ]
    title = f"DeCUR: results of the scale {config.scale}"
    text = page(title, sections)
    write_ours(
        Path(paths.report()),
        lambda temporary: temporary.write_text(text, encoding="utf-8"),
        _is_report,
    )


def _is_report(path: Path) -> bool:
    return GENERATOR in path.read_text(encoding="utf-8", errors="replace")[:1000]


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The HTML of a title and of sections, each a heading and the HTML below it, with contents."""
    links, body = [], []
    for number, (heading, content) in enumerate(sections, start=1):
        name = html.escape(heading)
        links.append(f'<li><a href="#section-{number}">{name}</a></li>')
        body.append(f'<h2 id="section-{number}">{number}. {name}</h2>\n{content}')
    named = f"{GENERATOR}<title>{html.escape(title)}</title>"
    head = f'<meta charset="utf-8">{named}<style>{STYLE}</style>'
    contents = f"<nav><ul>{''.join(links)}</ul></nav>"
    main = "\n".join([f"<h1>{html.escape(title)}</h1>", contents, *body])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{main}\n</body></html>\n'


def section_of(experiment: Experiment, config: Config) -> str:
    """The section where an experiment is shown: its scenario, if it has one alone, or its stage."""
    if experiment.stage in STAGES:
        return STAGES[experiment.stage]
    scenarios = [p.scenario for p in experiment.panels if p.scenario in config.scenarios]
    names = {scenario_name(scenario) for scenario in scenarios}
    return names.pop() if len(names) == 1 else SEVERAL


def _results(
    experiments: Mapping[str, Experiment], config: Config, paths: Paths
) -> Iterator[tuple[str, list[str]]]:
    """Each section that an experiment is shown in, scenarios first, and its parts."""
    learnt: dict[str, list[str]] = {}
    for scenario in config.scenarios:
        learnt.setdefault(scenario_name(scenario), []).append(
            how_it_learned(scenario, config, paths)
        )
    for section in [*learnt, SEVERAL, *STAGES.values()]:
        found = [
            shown(name, outputs(name, experiment, paths))
            for name, experiment in experiments.items()
            if section_of(experiment, config) == section
        ]
        found += learnt.get(section, [])
        if found:
            yield section, found


def shown(name: str, made: Mapping[str, str]) -> str:
    """An experiment as HTML: its page, its figure, and its numbers to download."""
    path = Path(made["md"])
    if not path.is_file():
        return f"<h3>{html.escape(name)}</h3><p>Not collated yet.</p>"
    title, caption, scale, *rest = path.read_text(encoding="utf-8").split("\n\n")
    parts = [_html(f"##{title}"), _html(caption)]
    if "figure" in made and Path(made["figure"]).is_file():
        parts.append(_image(Path(made["figure"]).read_bytes(), title.removeprefix("# ")))
    parts += [_html("\n\n".join(rest)), f'<div class="small">{_html(scale)}</div>']
    files = [Path(made[kind]) for kind in made if kind in TYPES and Path(made[kind]).is_file()]
    links = (f'<a download="{f.name}" href="{_inline(f)}">{f.name}</a>' for f in files)
    return "\n".join([*parts, f'<p class="small">{" ".join(links)}</p>'])


def how_it_learned(scenario: Scenario, config: Config, paths: Paths) -> str:
    """The learning curves of a scenario's pretraining, as HTML; empty before there are any."""
    from decur.tables import learning

    logs = learning.logs(scenario, config, paths)
    if not logs:
        return ""
    note = (
        f"Scenario `{scenario}`, the first seed's default runs. Loss: smoothed, so that methods "
        "compare, over that of the first step. Alignment: the mean correlation of a dimension with "
        "the same of the other modality. Effective rank: of how many directions the embeddings of "
        "a batch make use, which falls where they collapse."
    )
    image = _image(learning.draw(logs)["figure"], f"learning curves of {scenario}")
    return "\n".join(["<h3>Learning curves</h3>", image, _html(note)])


def _html(markdown: str) -> str:
    """Markdown as HTML; tables may scroll sideways."""
    from markdown import markdown as convert

    text: str = convert(markdown, extensions=["tables"])
    return text.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )


def _image(png: bytes, name: str) -> str:
    """A figure, all of them to one scale."""
    from PIL import Image

    width = round(Image.open(io.BytesIO(png)).width * SCALE)
    return f'<img alt="{html.escape(name)}" width="{width}" src="{_address(png, "png")}">'


def _inline(path: Path) -> str:
    return _address(path.read_bytes(), path.suffix[1:])


def _address(content: bytes, kind: str) -> str:
    """The content of a file as a `data:` address."""
    return f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"


def what_was_run(config: Config) -> str:
    """Data, backbones and recipe of each scenario's pretraining, as HTML."""
    lines = [
        ["Scenario", "Pretrained on", "Backbones", "Epochs", "Batch", "Optimiser", "Embedding"]
    ]
    for name, scenario in config.scenarios.items():
        recipe = scenario.pretrain
        source = config.datasets[recipe.dataset].source
        lines.append(
            [
                f"`{name}`",
                f"{recipe.dataset} ({source})",
                " and ".join({recipe.archs.get(m, recipe.arch): None for m in scenario.modalities}),
                str(recipe.epochs),
                str(recipe.batch_size),
                f"{recipe.optimizer}, lr {recipe.lr:g}",
                f"{recipe.dim}, {recipe.dim_common} common",
            ]
        )
    methods, seeds = ", ".join(config.methods), ", ".join(map(str, config.seeds))
    said = [f"Methods: {methods}. Seeds: {seeds}.", as_table(grid(lines))]
    return _html("\n\n".join([*said, *warning({d.source for d in config.datasets.values()})]))


def costs(root: Path) -> list[Cost]:
    """Sums over the benchmarks of each stage below `root/benchmarks`, in the order of the data."""
    found: dict[str, list[dict[str, str]]] = {
        stage: []
        for stage in ("download", "preprocess", "pretrain", "transfer", "explain", "tables")
    }
    for path in sorted((root / "benchmarks").rglob("*.tsv")):
        stage = path.relative_to(root / "benchmarks").parts[0].split("-")[0]
        with path.open(newline="", encoding="utf-8") as file:
            found.setdefault(stage, []).extend(csv.DictReader(file, delimiter="\t"))
    return [
        Cost(
            stage,
            len(jobs),
            sum(_number(job["cpu_time"]) for job in jobs),
            sum(_number(job["s"]) for job in jobs),
            max(_number(job["max_rss"]) for job in jobs),
        )
        for stage, jobs in found.items()
        if jobs
    ]


def _number(text: str) -> float:
    """Of a benchmark; jobs of a moment have none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def what_it_cost(stages: Sequence[Cost]) -> str:
    """The costs as a table, as HTML."""
    if not stages:
        return "<p>Nothing has been measured yet.</p>"
    lines = [["Stage", "Jobs", "CPU [h]", "Wall time, summed [h]", "Largest job [GB]"]]
    whole = Cost(
        "**all**",
        sum(c.jobs for c in stages),
        sum(c.cpu_seconds for c in stages),
        sum(c.seconds for c in stages),
        max(c.largest_mb for c in stages),
    )
    for c in [*stages, whole]:
        hours = [f"{c.cpu_seconds / 3600:.2f}", f"{c.seconds / 3600:.2f}"]
        lines.append([c.stage, str(c.jobs), *hours, f"{c.largest_mb / 1024:.2f}"])
    note = "Of the latest run of each job, by Snakemake's benchmarks; jobs run side by side."
    return _html(f"{as_table(grid(lines))}\n\n{note}")
