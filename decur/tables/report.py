"""Write the report: one HTML file with all results of a scale, which works offline.

It contains the pages and figures of the experiments, even unfinished ones, the recipes of
pretraining, and the resources used. All of it is read from the results folder.
"""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from decur.artifacts.ownership import write_ours
from decur.artifacts.paths import Paths
from decur.config import Config, Scenario
from decur.config.experiments import Experiment, scenario_name
from decur.tables.highlights import cards
from decur.tables.html import Image, render
from decur.tables.markup import unmarked
from decur.tables.pages import Heading, Page, grid, warning
from decur.tables.run import outputs, read_page
from decur.tables.usage import stage_usage, usage_page

SECTIONS = {"ablations": "Ablations", "explain": "Explainability", "claims": "Claims"}
SEVERAL = "Several scenarios"
TYPES = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "tex": "text/x-tex"}
"""Media types of the files in the report, by suffix."""

GENERATOR = '<meta name="generator" content="decur">'
"""The line of the template that identifies a file as a report."""

SCALE = 0.45
"""Size of figures in the report, relative to their pixels."""

LARGEST_SVG = 150_000
"""Bytes of an SVG that is preferred to a smaller PNG, since it stays sharp."""


@dataclass(frozen=True)
class Download:
    """A file in the report: its name, and its content as a `data:` address."""

    name: str
    address: str


@dataclass(frozen=True)
class Item:
    """A page of the report, with its figure and files; `name` is that of its experiment."""

    page: Page
    image: Image | None = None
    downloads: tuple[Download, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    heading: str
    items: tuple[Item, ...]


def write_report(experiments: Mapping[str, Experiment], config: Config, paths: Paths) -> None:
    """Write the report of the available results.

    Raises:
        DecurError: the report's file exists and was not written by this package, or a record or a
            log is damaged.
    """
    sections = [
        *_results(experiments, config, paths),
        Section("Cost", (Item(usage_page(stage_usage(Path(paths.root)))),)),
    ]
    text = render(
        "report.html",
        title=f"DeCUR: results of the scale {config.scale}",
        recipes=recipes_page(config),
        cards=cards(experiments, config, paths),
        sections=distinct(sections),
    )
    write_ours(
        Path(paths.report()),
        lambda temporary: temporary.write_text(text, encoding="utf-8"),
        _is_report,
    )


def _is_report(path: Path) -> bool:
    return GENERATOR in path.read_text(encoding="utf-8", errors="replace")[:1000]


def distinct(sections: list[Section]) -> list[Section]:
    """Add the page's title to each heading inside a page that another page has, too."""
    pages = [item.page for section in sections for item in section.items]
    counts = Counter(part.text for page in pages for part in page.body if isinstance(part, Heading))

    def renamed(item: Item) -> Item:
        body = tuple(
            Heading(f"{part.text} ({item.page.title})")
            if isinstance(part, Heading) and counts[part.text] > 1
            else part
            for part in item.page.body
        )
        return replace(item, page=replace(item.page, body=body))

    return [replace(s, items=tuple(map(renamed, s.items))) for s in sections]


def section_of(experiment: Experiment, config: Config) -> str:
    """Choose the section of an experiment: its stage, its only scenario, or `SEVERAL`."""
    if experiment.stage in SECTIONS:
        return SECTIONS[experiment.stage]
    scenarios = [p.scenario for p in experiment.panels if p.scenario in config.scenarios]
    names = {scenario_name(scenario) for scenario in scenarios}
    return names.pop() if len(names) == 1 else SEVERAL


def _results(
    experiments: Mapping[str, Experiment], config: Config, paths: Paths
) -> Iterator[Section]:
    """Make each section that has content, scenarios first."""
    curves: dict[str, list[Item]] = {}
    for scenario in config.scenarios:
        items = curves.setdefault(scenario_name(scenario), [])
        items += learning_curves(scenario, config, paths)
    for heading in [*curves, SEVERAL, *SECTIONS.values()]:
        items = [
            experiment_item(name, experiment, paths)
            for name, experiment in experiments.items()
            if section_of(experiment, config) == heading
        ]
        items += curves.get(heading, [])
        if items or heading in curves:
            yield Section(heading, tuple(items))


def experiment_item(name: str, experiment: Experiment, paths: Paths) -> Item:
    """Read the page of an experiment, its figure, and its numbers for download."""
    files = {kind: Path(path) for kind, path in outputs(name, experiment, paths).items()}
    page = read_page(name, paths)
    image = None
    if (figure := files.get("figure")) and figure.is_file():
        vector = files["vector"]
        drawn = vector.read_bytes() if vector.is_file() else None
        image = _image(figure.read_bytes(), _described(page), drawn)
    downloads = [
        Download(file.name, _address(file.read_bytes(), kind))
        for kind, file in files.items()
        if kind in TYPES and file.is_file()
    ]
    return Item(page, image, tuple(downloads), name)


def learning_curves(scenario: Scenario, config: Config, paths: Paths) -> list[Item]:
    """Draw the learning curves of a scenario's pretraining; empty without logs.

    Raises:
        DecurError: a log is damaged.
    """
    from decur.tables import learning

    logs = learning.logs(scenario, config, paths)
    if not logs:
        return []
    note = (
        f"Scenario `{scenario}`, default runs with the first seed. Loss: smoothed, and relative to "
        "the first step, so that methods are comparable. Alignment: the mean correlation of each "
        "dimension with the same dimension of the other modality. Effective rank: the number of "
        "directions that the embeddings of a batch use; it falls if they collapse."
    )
    drawn = learning.draw(logs)
    page = Page(f"Learning curves of {scenario_name(scenario)}", body=(note,))
    described = "Lines over the steps of pretraining: loss, alignment and effective rank"
    image = _image(drawn["figure"], described, drawn["vector"])
    return [Item(page, image, name=f"learning-{scenario}")]


def recipes_page(config: Config) -> Page:
    """Make the page with the data, backbones and recipe of each scenario."""
    lines = [
        ["Scenario", "Pretrained on", "Backbones", "Epochs", "Batch", "Optimiser", "Embedding"]
    ]
    for name, scenario in config.scenarios.items():
        recipe = scenario.pretrain.divided()
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
    sources = {dataset.source for dataset in config.datasets.values()}
    intro = f"Methods: {methods}. Seeds: {seeds}."
    return Page("", body=(intro, grid(lines), *warning(sources)))


def _described(page: Page) -> str:
    """Describe a figure by title and caption, for readers who cannot see it."""
    return unmarked(f"{page.title}. {page.caption}".strip())


def _image(png: bytes, description: str, svg: bytes | None) -> Image:
    """Embed a figure in the report, at one scale for all figures: as SVG unless it is large."""
    from PIL import Image as Pillow

    width = round(Pillow.open(io.BytesIO(png)).width * SCALE)
    if svg is not None and len(svg) < max(len(png), LARGEST_SVG):
        return Image(description, width, _address(svg, "svg"))
    return Image(description, width, _address(png, "png"))


def _address(content: bytes, suffix: str) -> str:
    """Encode the content of a file as a `data:` address."""
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(content).decode()}"
