"""Represent an experiment's results as a page, which is rendered as Markdown, LaTeX, HTML and text.

All text of a page is marked text: see `decur.tables.markup`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from decur.config import Config
from decur.config.experiments import Experiment, Panel

if TYPE_CHECKING:  # slow to load
    from pandas import DataFrame

STAND_INS = {
    "scenes": "synthetic scenes, not the real datasets",
    "samples": "a few sample frames of the real datasets",
}

TableCell = tuple[str, ...]
"""The lines of a table's cell. In the head of a column, they are ordered from coarse to fine."""


@dataclass(frozen=True)
class Table:
    """A table: heads of columns, and rows of as many cells. A row's first cell is its label."""

    head: tuple[TableCell, ...]
    rows: tuple[tuple[TableCell, ...], ...]


@dataclass(frozen=True)
class Heading:
    """The heading of the following tables and paragraphs."""

    text: str

    @property
    def as_paragraph(self) -> str:
        """The heading as a bold paragraph, for formats without headings here."""
        return f"**{self.text}**"


PagePart = Table | Heading | str
"""A part of a page; a string is a paragraph."""


@dataclass(frozen=True)
class Page:
    """Title, caption, tables and paragraphs; `scale` notes whether numbers are comparable."""

    title: str
    caption: str = ""
    scale: str = ""
    body: tuple[PagePart, ...] = ()


class Result(NamedTuple):
    """An experiment's numbers and their format, its page, and its figure.

    `draw` returns the figure by kind of output, or nothing for an experiment without a figure.
    """

    frame: "DataFrame"
    page: Page
    draw: Callable[[], dict[str, bytes]] = dict
    float_format: str = "%.4f"


def experiment_page(experiment: Experiment, config: Config, body: Sequence[PagePart]) -> Page:
    """Make the page of an experiment, and note whether its numbers are comparable to the paper's.

    Args:
        experiment: provides title and caption.
        config: the scale.
        body: replaced by one sentence if the scale includes none of the experiment's scenarios.
    """
    panels = [p for e in (experiment, *experiment.about.values()) for p in e.panels]
    scale = " ".join([f"Scale: `{config.scale}`.", *warning(_sources(panels, config))])
    if panels and not any(p.scenario in config.scenarios for p in panels):
        body = ["The scale includes none of the experiment's scenarios."]
    return Page(experiment.title, experiment.caption, scale, tuple(body))


def is_comparable(experiment: Experiment, config: Config) -> bool:
    """Return whether an experiment's data are the paper's, so that its numbers compare."""
    return not warning(_sources(experiment.panels, config))


def _sources(panels: Sequence[Panel], config: Config) -> set[str]:
    """The sources of all datasets that the panels of the scale's scenarios read."""
    used = [p for p in panels if p.scenario in config.scenarios]
    names = {config.scenarios[p.scenario].pretrain.dataset for p in used}
    names |= {p.dataset for p in used}
    return {config.datasets[name].source for name in names if name in config.datasets}


def warning(sources: Collection[str]) -> list[str]:
    """Warn if numbers from these sources are not comparable with the paper's, else return []."""
    data = " and ".join(text for source, text in STAND_INS.items() if source in sources)
    if not data:
        return []
    return [f"**The numbers are from {data}, and are NOT comparable with the paper's.**"]


def grid(lines: Sequence[Sequence[str | TableCell]]) -> Table:
    """Make a table from lines, of which the first is its head. A cell may be a string."""
    head, *rows = (tuple((c,) if isinstance(c, str) else c for c in line) for line in lines)
    return Table(head, tuple(rows))
