"""What is claimed of the methods, and whether the runs bear it out: verdicts and intervals."""

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
from decur.tables.pages import Cell, Page, Table, grid, page
from decur.tables.paper import paper_cell
from decur.tables.scores import scores

if TYPE_CHECKING:  # the workflow asks for `sources` often, and these are slow to load
    from pandas import DataFrame

    from decur.tables.statistics import Difference

COLUMNS = (
    "claim section text verdict experiment higher lower panel labels protocol metric difference "
    "low high bootstrap_low bootstrap_high ahead n wanted paper flag"
)
NOTES = (
    "A claim is read as: in each of its cells the first row has more than the second. Difference: "
    "mean over the seeds that both have, paired by seed, in percentage points, of alignment losses "
    "and of the overlap of saliency in hundredths; the interval is Student's. **holds**: every "
    "interval lies above zero; "
    "**where measured**: but the scale lacks some of the rows. **does not hold**: one lies below "
    "zero, also when widened for the number of cells (Bonferroni). **not enough seeds**: fewer "
    "than three in a cell, or the intervals leave it open. **not measured**: nothing in the scale "
    "measures it, or no run has finished.",
    "Intervals: how many of a claim's lie above zero, on both sides of it, and below. Ahead: on "
    "how many seeds the first row has more. Paper: the paper's own difference.",
)
HEADS = ("Compared", "Difference", "95 % interval", "Ahead", "Paper")
SUSPECT = "<sup>a</sup> One of the paper's two numbers is suspect: see the note at its table."


@dataclass(frozen=True)
class Subject:
    """A cell that is compared; `part`: of the embedding's dimensions, where the `kind` has any."""

    row: str
    entry: Entry
    kind: str
    part: str

    def files(self, paths: Paths) -> dict[int, str]:
        """The product that measures it, by seed."""
        if self.part:
            return {run.seed: paths.explain(str(run), self.kind) for run in self.entry.runs}
        cell = str(self.entry.cell)
        return {run.seed: paths.metrics(str(run), cell) for run in self.entry.runs}


Rows = dict[str, Subject]
"""The cells of a column, by the label of their row."""


@dataclass(frozen=True)
class Pair:
    """Two cells of a column of the experiment `of`."""

    of: str
    column: Column
    higher: Subject
    lower: Subject


def pairs(experiment: Experiment, config: Config) -> dict[str, list[Pair]]:
    """What each claim compares, of the experiments and rows that the scale includes."""
    columns = {name: _columns(subject, config) for name, subject in experiment.about.items()}
    return {name: _pairs(claim, columns) for name, claim in experiment.claims.items()}


def _pairs(claim: Claim, columns: Mapping[str, Mapping[Column, Rows]]) -> list[Pair]:
    found = []
    for wanted in claim.comparisons:
        asked = (wanted.panels, wanted.labels, wanted.protocols, wanted.metrics)
        for column, rows in columns.get(wanted.of, {}).items():
            inside = all(a is None or c in a for c, a in zip(column, asked, strict=True))
            if inside and wanted.higher in rows:
                others = [rows[label] for label in wanted.lower if label in rows]
                found += [Pair(wanted.of, column, rows[wanted.higher], o) for o in others]
    return found


def _columns(experiment: Experiment, config: Config) -> dict[Column, Rows]:
    """What the scale measures, by column and row."""
    found: dict[Column, Rows] = {}
    for entry in entries(experiment, config):
        for label, part in parts(experiment, entry.row).items():
            metric = experiment.kind if part else entry.metric
            column = (entry.panel.label, entry.cell.labels, entry.protocol, metric)
            if entry.runs:
                found.setdefault(column, {})[label] = Subject(label, entry, experiment.kind, part)
    return found


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The products that the claims are judged by, made already or not."""
    found = {
        file
        for of_claim in pairs(experiment, config).values()
        for pair in of_claim
        for subject in (pair.higher, pair.lower)
        for file in subject.files(paths).values()
    }
    return sorted(found)


def collate(experiment: Experiment, config: Config, paths: Paths) -> "DataFrame":
    """A line for each pair of cells; of a claim without any in the scale, one that says so.

    Columns: claim, section, text, verdict, experiment, higher, lower (its rows), panel, labels,
    protocol, metric, difference (mean over the seeds that both rows have), low, high (Student's
    interval of it), bootstrap_low, bootstrap_high, ahead (seeds on which the first row has more),
    n (seeds found), wanted (seeds asked for), paper (the paper's difference), flag (why that is
    suspect).

    Raises:
        DecurError: a result file is damaged.
    """
    from pandas import DataFrame

    from decur.tables.statistics import paired_difference, verdict

    lines: list[dict[str, Any]] = []
    for name, compared in pairs(experiment, config).items():
        claim, found = experiment.claims[name], [(p, *_paired(p, paths)) for p in compared]
        said = verdict([[a - b for a, b in zip(*both, strict=True)] for _, *both in found])
        if said == "holds" and not _whole(claim, compared):
            said = "holds where measured"
        head = {"claim": name, "section": claim.section or "", "text": claim.text, "verdict": said}
        lines += [head | _line(p, paired_difference(a, b)) for p, a, b in found] or [head]
    return DataFrame(lines, columns=COLUMNS.split())


def _whole(claim: Claim, compared: Sequence[Pair]) -> bool:
    """Whether the scale has every row that the claim is about."""
    wanted = {(c.of, c.higher, other) for c in claim.comparisons for other in c.lower}
    return wanted == {(pair.of, pair.higher.row, pair.lower.row) for pair in compared}


def _paired(pair: Pair, paths: Paths) -> tuple[list[float], list[float]]:
    """The scores of both cells on the seeds that both have."""
    higher, lower = _scores(pair.higher, paths), _scores(pair.lower, paths)
    seeds = sorted(higher.keys() & lower.keys())
    return [higher[seed] for seed in seeds], [lower[seed] for seed in seeds]


def _scores(subject: Subject, paths: Paths) -> dict[int, float]:
    if not subject.part:
        return scores(subject.entry, paths)
    files = {seed: Path(file) for seed, file in subject.files(paths).items()}
    return {seed: _mean(file, subject.part) for seed, file in files.items() if file.is_file()}


def _mean(file: Path, part: str) -> float:
    means = _means(file)
    if part not in means:
        raise DecurError(f"{file}: has no '{part}'; delete it and run the explain stage again")
    return means[part]


@read_once
def _means(path: Path) -> dict[str, float]:
    """The mean alignment loss, or overlap of saliency, of each part, in hundredths."""
    from decur.tables.explained.products import part_means

    return {part: 100 * mean for part, mean in part_means(path).items()}


def _line(pair: Pair, found: "Difference") -> dict[str, Any]:
    panel, labels, protocol, metric = pair.column
    (higher, flag), (lower, other_flag) = map(paper_cell, (pair.higher.entry, pair.lower.entry))
    runs = [{run.seed for run in subject.entry.runs} for subject in (pair.higher, pair.lower)]
    return {
        "experiment": pair.of,
        "higher": pair.higher.row,
        "lower": pair.lower.row,
        "panel": panel,
        "labels": labels,
        "protocol": protocol,
        "metric": metric,
        "difference": found.mean,
        "low": found.student.low,
        "high": found.student.high,
        "bootstrap_low": found.bootstrap.low,
        "bootstrap_high": found.bootstrap.high,
        "ahead": found.wins,
        "n": found.n,
        "wanted": len(runs[0] & runs[1]),
        "paper": higher - lower,
        "flag": flag or other_flag,
    }


def claims_page(frame: "DataFrame", experiment: Experiment, config: Config) -> Page:
    """The collated frame as a page: the verdicts, then each claim's intervals."""
    verdicts = [["", "Claim", "Paper", "Verdict", "Intervals"]]
    intervals: list[Table | str] = []
    lines: list[Any] = list(frame.itertuples())
    for number, (_, found) in enumerate(groupby(lines, key=lambda line: line.claim), 1):
        first, *others = found
        cells = [cell for cell in (first, *others) if cell.n >= 0]  # NaN: nothing to compare
        section = f"§{first.section}" if first.section else "ours"
        verdicts.append([str(number), first.text, section, first.verdict, _tally(cells)])
        if cells:
            intervals += [f"**Claim {number}**", grid([HEADS, *map(_cell, cells)])]
    body = [grid(verdicts), *NOTES, *intervals]
    if any(line.n >= 0 and line.flag for line in lines):
        body.append(SUSPECT)
    done, wanted = int(frame["n"].sum()), int(frame["wanted"].sum())
    if done < wanted:
        body.append(f"**Incomplete: {done} of {wanted} pairs of results are in.**")
    return page(experiment, config, body)


def _tally(cells: Sequence[Any]) -> str:
    """How many intervals lie above zero, on both sides of it, and below it."""
    measured = [cell for cell in cells if cell.n]
    above, below = sum(c.low > 0 for c in measured), sum(c.high < 0 for c in measured)
    return f"{above}, {len(measured) - above - below}, {below}" if measured else "–"


def _cell(cell: Any) -> list[str | Cell]:
    where = ", ".join(column_parts((cell.panel, cell.labels, cell.protocol, cell.metric)))
    interval = f"{_signed(cell.low)} to {_signed(cell.high)}" if cell.n > 1 else "–"
    mark = "<sup>a</sup>" if cell.flag else ""
    return [
        (f"{cell.experiment}: {cell.higher} − {cell.lower}", where),
        _signed(cell.difference),
        interval,
        f"{cell.ahead:.0f} of {cell.n:.0f}",
        "" if math.isnan(cell.paper) else f"{_signed(cell.paper)}{mark}",
    ]


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}".replace("-", "−")
