"""The pages of results: what they say, in whatever language they are then written.

Text is marked as in Markdown, by `**bold**`, `` `code` `` and `<sup>a</sup>` alone.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from decur.config import Config
from decur.config.experiments import Experiment

if TYPE_CHECKING:  # slow to load
    from pandas import DataFrame

STAND_INS = {
    "scenes": "synthetic scenes, not of the real datasets",
    "samples": "a few sample frames of the real datasets",
}

Cell = tuple[str, ...]
"""What stands in a cell, a line each; in the head of a column from coarse to fine."""


@dataclass(frozen=True)
class Table:
    """Heads of the columns, and lines of as many cells; the first column is the label."""

    head: tuple[Cell, ...]
    lines: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Page:
    """Title, caption, what the scale's numbers are worth, then tables and paragraphs."""

    title: str
    caption: str
    scale: str
    body: tuple[Table | str, ...]


class Result(NamedTuple):
    """What becomes of an experiment: its numbers and their format, its page, and its figure.

    `draw` gives the figure's formats; an experiment that is only read has none.
    """

    frame: "DataFrame"
    page: Page
    draw: Callable[[], dict[str, bytes]] = dict
    float_format: str = "%.4f"


def page(experiment: Experiment, config: Config, body: Sequence[Table | str]) -> Page:
    """A page of an experiment; it says whether its numbers compare with the paper's."""
    panels = [p for e in (experiment, *experiment.about.values()) for p in e.panels]
    scenarios = [p.scenario for p in panels if p.scenario in config.scenarios]
    names = {config.scenarios[s].pretrain.dataset for s in scenarios}
    names |= {p.dataset for p in panels if p.scenario in scenarios}
    sources = {config.datasets[name].source for name in names if name in config.datasets}
    scale = " ".join([f"Scale: `{config.scale}`.", *warning(sources)])
    if panels and not scenarios:
        body = ["The scale includes none of the experiment's scenarios."]
    return Page(experiment.title, experiment.caption, scale, tuple(body))


def warning(sources: Collection[str]) -> list[str]:
    """That numbers of data of these sources do not compare with the paper's, if so."""
    data = " and ".join(text for source, text in STAND_INS.items() if source in sources)
    if not data:
        return []
    return [f"**The numbers are of {data}, and are NOT comparable with the paper's.**"]


def grid(lines: Sequence[Sequence[str | Cell]]) -> Table:
    """A table; the first line is its head, a cell of one line may be given as text."""
    head, *body = (tuple((c,) if isinstance(c, str) else c for c in line) for line in lines)
    return Table(head, tuple(body))
