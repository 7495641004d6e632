"""What every page of a result has: its head, and tables in Markdown."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from decur.config import Config
from decur.experiments import Experiment

if TYPE_CHECKING:  # pandas is slow to load
    from pandas import DataFrame

STAND_INS = {
    "scenes": "synthetic scenes, not of the real datasets",
    "samples": "a few sample frames of the real datasets",
}


class Result(NamedTuple):
    """What becomes of an experiment: its numbers and their format, a page, its drawing as PNG."""

    frame: "DataFrame"
    text: str
    draw: Callable[[], bytes]
    float_format: str = "%.4f"


def page(experiment: Experiment, config: Config, body: list[str]) -> str:
    """Title, caption, the scale and whether its numbers compare with the paper's, the body."""
    scenarios = [p.scenario for p in experiment.panels if p.scenario in config.scenarios]
    names = {config.scenarios[s].pretrain.dataset for s in scenarios}
    names |= {p.dataset for p in experiment.panels if p.scenario in scenarios}
    sources = {config.datasets[name].source for name in names if name in config.datasets}
    data = " and ".join(text for source, text in STAND_INS.items() if source in sources)
    scale = f"Scale: `{config.scale}`."
    if data:
        scale += f" **The numbers are of {data}, and are NOT comparable with the paper's.**"
    if not scenarios:
        body = ["The scale includes none of the experiment's scenarios."]
    return "\n\n".join([f"# {experiment.title}", experiment.caption, scale, *body]) + "\n"


def grid(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head, the first column the label."""
    marks = [":--", *[":-:"] * (len(lines[0]) - 1)]
    escaped = ([text.replace("|", "\\|") for text in line] for line in lines)
    head, *body = (f"| {' | '.join(line)} |" for line in [*escaped])
    return "\n".join([head, f"| {' | '.join(marks)} |", *body])
