"""The key results of a scale in a few words, for the first screen of the report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Column, Experiment, Row, column_parts, scenario_name
from decur.tables import claims
from decur.tables.experiment_kinds import without_paper
from decur.tables.results import collate

MOST = 9
"""Cards on the first screen."""

ALIGNED = 0.5
"""Alignment loss below which common dimensions are called aligned: a correlation above 0.3."""


@dataclass(frozen=True)
class Card:
    """One key result: the experiment that it comes from, a title, a value and a sentence."""

    experiment: str
    title: str
    value: str
    text: str


def cards(experiments: Mapping[str, Experiment], config: Config, paths: Paths) -> list[Card]:
    """Summarise what has been measured: transfer, alignment and claims, in this order.

    Raises:
        DecurError: a result file is damaged.
    """
    makers = {"table": _transfer, "alignment": _alignment, "claims": _claims}
    found = [
        card
        for kind, make in makers.items()
        for name, experiment in experiments.items()
        if experiment.kind == kind
        for card in make(name, experiment, config, paths)
    ]
    return found[:MOST]


def _transfer(name: str, experiment: Experiment, config: Config, paths: Paths) -> Iterator[Card]:
    """Compare DeCUR with random initialisation wherever both have been measured."""
    ours, base = _row(experiment, "decur"), _row(experiment, "random")
    if ours is None or base is None:
        return
    measured: dict[Column, dict[str, Any]] = {}
    lines: list[Any] = list(collate(without_paper(experiment, config), config, paths).itertuples())
    for line in lines:
        if line.n:
            column = line.panel, line.labels, line.protocol, line.metric
            measured.setdefault(column, {})[line.row] = line
    pairs = [
        (column, found[ours.label], found[base.label])
        for column, found in measured.items()
        if {ours.label, base.label} <= found.keys()
    ]
    if not pairs:
        return
    above = sum(a.ours_mean > b.ours_mean for _, a, b in pairs)
    column, a, b = max(pairs, key=lambda pair: pair[0][1])
    seeds = "one seed" if a.n == 1 else f"means of {a.n} seeds"
    yield Card(
        name,
        experiment.title,
        f"{a.ours_mean:.1f} against {b.ours_mean:.1f} %",
        f"{ours.label} against {base.label} ({', '.join(column_parts(column))}). Pretraining beats "
        f"random initialisation in {above} of {len(pairs)} columns ({seeds}).",
    )


def _row(experiment: Experiment, method: str) -> Row | None:
    """The row of a method's default variant."""
    rows = [r for r in experiment.rows if r.method == method and r.variant == "default"]
    return rows[0] if rows else None


def _alignment(name: str, experiment: Experiment, config: Config, paths: Paths) -> Iterator[Card]:
    """Compare the alignment of the common and of the unique dimensions, per scenario."""
    from decur.tables.explained.products import explained

    for one in explained(experiment, config, paths, ["batch", "dimension", "loss"]):
        means = one.frame.groupby("part")["loss"].mean()
        if {"common", "unique"} <= set(means.index):
            verdict = "aligned" if means["common"] < ALIGNED else "hardly aligned; train longer"
            yield Card(
                name,
                f"Alignment, {scenario_name(one.scenario)}",
                f"{means['common']:.2f} against {means['unique']:.2f}",
                "Loss of the common against the unique dimensions (0: aligned across modalities, "
                f"1: uncorrelated). The common dimensions are {verdict}.",
            )


def _claims(name: str, experiment: Experiment, config: Config, paths: Paths) -> Iterator[Card]:
    """Count the verdicts of a list of claims."""
    frame = claims.collate(experiment, config, paths)
    verdicts = frame.drop_duplicates("claim")["verdict"]
    counts = verdicts.value_counts()
    holds = int(sum(n for said, n in counts.items() if str(said).startswith("holds")))
    rest = [f"{n} {said}" for said, n in counts.items() if not str(said).startswith("holds")]
    yield Card(
        name,
        experiment.title,
        f"{holds} of {len(verdicts)} hold",
        f"The others: {', '.join(rest)}." if rest else "None is open.",
    )
