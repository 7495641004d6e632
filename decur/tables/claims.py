"""Judge claims about the methods from the results of runs: verdicts and intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decur.artifacts.files import read_once
from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Claim, Column, Entry, Experiment, column_parts, entries, parts
from decur.errors import DecurError
from decur.tables.pages import Heading, Page, PagePart, TableCell, experiment_page, grid
from decur.tables.paper import paper_cell
from decur.tables.scores import scores

if TYPE_CHECKING:  # the workflow calls `sources` often, and these are slow to load
    from pandas import DataFrame

    from decur.tables.statistics import Difference

COLUMNS = (
    "claim section text verdict p experiment higher lower panel labels protocol metric difference "
    "low high bootstrap_low bootstrap_high ahead n wanted paper flag"
)
NOTES = (
    "A claim states that in each of its cells the first row has a higher score than the second. "
    "Difference: mean over the seeds that both rows have, paired by seed, in percentage points; "
    "alignment losses and saliency overlaps are in hundredths. The interval is Student's, for this "
    "cell alone. Verdicts are corrected for the number of claims that are judged on this page "
    "(Holm's method, 5 %), and p is the corrected p-value. **holds**: in every cell; "
    "**where measured**: the scale lacks some of the rows. **does not hold**: some cell "
    "contradicts the claim, corrected for the number of cells too (Bonferroni). **undecided**: the "
    "runs neither confirm nor contradict the claim. **not enough seeds**: a cell has fewer than "
    "three. **not measured**: nothing in the scale measures the claim, or no run has finished.",
    "Intervals: the number of a claim's intervals above zero, including zero, and below zero. "
    "Ahead: the number of seeds on which the first row has the higher score. Paper: the difference "
    "in the paper.",
)
HEADS = ("Compared", "Difference", "95 % interval", "Ahead", "Paper")
SUSPECT = "<sup>a</sup> One of the paper's two numbers is suspect: see the note below its table."


@dataclass(frozen=True)
class ComparedCell:
    """A cell that is compared, with its row and the kind of its experiment.

    `part` names the embedding dimensions if the kind compares them; otherwise it is empty.
    """

    row: str
    entry: Entry
    kind: str
    part: str

    def files(self, paths: Paths) -> dict[int, str]:
        """List the artifacts with the cell's scores, by seed."""
        if self.part:
            return {run.seed: paths.explain(str(run), self.kind) for run in self.entry.runs}
        cell = str(self.entry.cell)
        return {run.seed: paths.metrics(str(run), cell) for run in self.entry.runs}


Rows = dict[str, ComparedCell]
"""The cells of a column, by the label of their row."""


@dataclass(frozen=True)
class Pair:
    """Two compared cells in a column of the experiment `of`."""

    of: str
    column: Column
    higher: ComparedCell
    lower: ComparedCell


def pairs(experiment: Experiment, config: Config) -> dict[str, list[Pair]]:
    """List the pairs that each claim compares, within the experiments and rows of the scale."""
    columns = {name: _columns(about, config) for name, about in experiment.about.items()}
    return {name: _pairs(claim, columns) for name, claim in experiment.claims.items()}


def _pairs(claim: Claim, columns: Mapping[str, Mapping[Column, Rows]]) -> list[Pair]:
    compared = []
    for c in claim.comparisons:
        choices = (c.panels, c.labels, c.protocols, c.metrics)
        for column, rows in columns.get(c.of, {}).items():
            parts_of_column = zip(column, choices, strict=True)
            is_chosen = all(choice is None or part in choice for part, choice in parts_of_column)
            if is_chosen and c.higher in rows:
                others = [rows[label] for label in c.lower if label in rows]
                compared += [Pair(c.of, column, rows[c.higher], other) for other in others]
    return compared


def _columns(experiment: Experiment, config: Config) -> dict[Column, Rows]:
    """Collect the cells that the scale measures, by column and row."""
    columns: dict[Column, Rows] = {}
    for entry in entries(experiment, config):
        for label, part in parts(experiment, entry.row).items():
            metric = experiment.kind if part else entry.metric
            column = (entry.panel.label, entry.cell.labels, entry.protocol, metric)
            if entry.runs:
                columns.setdefault(column, {})[label] = ComparedCell(
                    label, entry, experiment.kind, part
                )
    return columns


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """List the artifacts from which the claims are judged, whether they exist or not."""
    files = {
        file
        for of_claim in pairs(experiment, config).values()
        for pair in of_claim
        for cell in (pair.higher, pair.lower)
        for file in cell.files(paths).values()
    }
    return sorted(files)


def collate(experiment: Experiment, config: Config, paths: Paths) -> "DataFrame":
    """Compare each pair of cells, with one line per pair.

    A claim without any pair in the scale has one line.

    Columns: claim, section, text, verdict, p (corrected for the number of claims), experiment,
    higher, lower (its rows), panel, labels, protocol, metric, difference (mean over the seeds that
    both rows have), low, high (its Student's interval), bootstrap_low, bootstrap_high, ahead (seeds
    on which the first row has the higher score), n (seeds found), wanted (seeds requested), paper
    (the paper's difference), flag (why the paper's difference is suspect).

    Raises:
        DecurError: a result file is damaged.
    """
    from pandas import DataFrame

    from decur.tables.statistics import paired_difference, verdicts

    paired = {
        name: [(pair, *_paired(pair, paths)) for pair in compared]
        for name, compared in pairs(experiment, config).items()
    }
    differences = [
        [[a - b for a, b in zip(*both, strict=True)] for _, *both in of_claim]
        for of_claim in paired.values()
    ]
    lines: list[dict[str, Any]] = []
    for (name, of_claim), judged in zip(paired.items(), verdicts(differences), strict=True):
        claim, said = experiment.claims[name], judged.said
        if said == "holds" and not _is_complete(claim, [pair for pair, *_ in of_claim]):
            said = "holds where measured"
        head: dict[str, Any] = {"claim": name, "section": claim.section or "", "text": claim.text}
        head |= {"verdict": said, "p": judged.p}
        lines += [head | _line(p, paired_difference(a, b)) for p, a, b in of_claim] or [head]
    return DataFrame(lines, columns=COLUMNS.split())


def _is_complete(claim: Claim, compared: Sequence[Pair]) -> bool:
    """Check whether the scale has every row of the claim."""
    wanted = {(c.of, c.higher, other) for c in claim.comparisons for other in c.lower}
    return wanted == {(pair.of, pair.higher.row, pair.lower.row) for pair in compared}


def _paired(pair: Pair, paths: Paths) -> tuple[list[float], list[float]]:
    """Read the scores of both cells for the seeds that both have."""
    higher, lower = _scores(pair.higher, paths), _scores(pair.lower, paths)
    seeds = sorted(higher.keys() & lower.keys())
    return [higher[seed] for seed in seeds], [lower[seed] for seed in seeds]


def _scores(cell: ComparedCell, paths: Paths) -> dict[int, float]:
    if not cell.part:
        return scores(cell.entry, paths)
    files = {seed: Path(file) for seed, file in cell.files(paths).items()}
    return {seed: _mean(file, cell.part) for seed, file in files.items() if file.is_file()}


def _mean(file: Path, part: str) -> float:
    means = _means(file)
    if part not in means:
        raise DecurError(f"{file}: has no '{part}'; delete it and run the explain stage again")
    return means[part]


@read_once
def _means(path: Path) -> dict[str, float]:
    """Read the mean alignment loss or saliency overlap of each part, in hundredths."""
    from decur.tables.explained.products import part_means

    return {part: 100 * mean for part, mean in part_means(path).items()}


def _line(pair: Pair, ours: "Difference") -> dict[str, Any]:
    panel, labels, protocol, metric = pair.column
    (higher, flag), (lower, other_flag) = map(paper_cell, (pair.higher.entry, pair.lower.entry))
    runs = [{run.seed for run in cell.entry.runs} for cell in (pair.higher, pair.lower)]
    return {
        "experiment": pair.of,
        "higher": pair.higher.row,
        "lower": pair.lower.row,
        "panel": panel,
        "labels": labels,
        "protocol": protocol,
        "metric": metric,
        "difference": ours.mean,
        "low": ours.student.low,
        "high": ours.student.high,
        "bootstrap_low": ours.bootstrap.low,
        "bootstrap_high": ours.bootstrap.high,
        "ahead": ours.wins,
        "n": ours.n,
        "wanted": len(runs[0] & runs[1]),
        "paper": higher - lower,
        "flag": flag or other_flag,
    }


def claims_page(frame: "DataFrame", experiment: Experiment, config: Config) -> Page:
    """Turn the collated frame into a page: the verdicts, then the intervals of each claim."""
    verdicts = [["", "Claim", "Paper", "Verdict", "p", "Intervals"]]
    intervals: list[PagePart] = []
    lines: list[Any] = list(frame.itertuples())
    for number, (_, of_claim) in enumerate(groupby(lines, key=lambda line: line.claim), 1):
        first, *others = of_claim
        cells = [cell for cell in (first, *others) if cell.n >= 0]  # NaN: nothing to compare
        section = f"§{first.section}" if first.section else "ours"
        verdicts.append(
            [str(number), first.text, section, first.verdict, _p(first.p), _tally(cells)]
        )
        if cells:
            intervals += [Heading(f"Claim {number}"), grid([HEADS, *map(_interval_line, cells)])]
    body = [grid(verdicts), *NOTES, *intervals]
    if any(line.n >= 0 and line.flag for line in lines):
        body.append(SUSPECT)
    done, wanted = int(frame["n"].sum()), int(frame["wanted"].sum())
    if done < wanted:
        body.append(f"**Incomplete: {done} of {wanted} pairs of results are finished.**")
    return experiment_page(experiment, config, body)


def _p(value: float) -> str:
    """Format a p-value with three decimals, or as a dash."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _tally(cells: Sequence[Any]) -> str:
    """Count the intervals above zero, including zero, and below zero."""
    measured = [cell for cell in cells if cell.n]
    above, below = sum(c.low > 0 for c in measured), sum(c.high < 0 for c in measured)
    return f"{above}, {len(measured) - above - below}, {below}" if measured else "–"


def _interval_line(cell: Any) -> list[str | TableCell]:
    column = ", ".join(column_parts((cell.panel, cell.labels, cell.protocol, cell.metric)))
    interval = f"{_signed(cell.low)} to {_signed(cell.high)}" if cell.n > 1 else "–"
    mark = "<sup>a</sup>" if cell.flag else ""
    return [
        (f"{cell.experiment}: {cell.higher} − {cell.lower}", column),
        _signed(cell.difference),
        interval,
        f"{cell.ahead:.0f} of {cell.n:.0f}",
        "" if math.isnan(cell.paper) else f"{_signed(cell.paper)}{mark}",
    ]


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}".replace("-", "−")
