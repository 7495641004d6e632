"""Collate scores of runs, next to the paper's numbers, into a table and its page."""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from decur.artifacts.paths import Paths
from decur.config import Config
from decur.config.experiments import Column, Experiment, column_parts, entries
from decur.tables.pages import Page, Table, TableCell, experiment_page, grid
from decur.tables.paper import paper_cell
from decur.tables.scores import note, scores

if TYPE_CHECKING:  # slow to load
    from pandas import DataFrame

COLUMNS = (
    "row x panel labels protocol metric ours_mean ours_std n wanted paper_metric by_paper_metric "
    "paper difference flag note"
)

WIDTH = 4
"""Most result columns side by side; further columns go into a table below."""


def collate(experiment: Experiment, config: Config, paths: Paths) -> "DataFrame":
    """Collect the available scores in percent, with one line per cell.

    A row that the scale does not run, and that the paper has no number of, is left out.

    Columns: row, x, panel, labels, protocol, metric, ours_mean, ours_std (sample standard
    deviation), n (seeds found), wanted (seeds requested), paper_metric (the paper's metric, if it
    is another one), by_paper_metric (our mean in that metric), paper, difference (ours - paper, in
    the same metric), flag (why the paper's number is suspect), and note (what is missing from our
    labels or samples).

    Raises:
        DecurError: a metrics file is damaged or lacks the metric.
    """
    from pandas import DataFrame

    lines: list[dict[str, Any]] = []
    for entry in entries(experiment, config):
        values = list(scores(entry, paths).values())
        mean = like = _mean(values)
        if entry.paper_metric:
            like = _mean(list(scores(entry, paths, entry.paper_metric).values()))
        paper, flag = paper_cell(entry)
        lines.append(
            {
                "row": entry.row.label,
                "x": math.nan if entry.row.x is None else entry.row.x,
                "panel": entry.panel.label,
                "labels": float(entry.cell.labels),
                "protocol": entry.protocol,
                "metric": entry.metric,
                "ours_mean": mean,
                "ours_std": statistics.stdev(values) if len(values) > 1 else math.nan,
                "n": len(values),
                "wanted": len(entry.runs),
                "paper_metric": entry.paper_metric or "",
                "by_paper_metric": like if entry.paper_metric else math.nan,
                "paper": paper,
                "difference": like - paper,
                "flag": flag,
                "note": note(entry, paths),
            }
        )
    known = {line["row"] for line in lines if line["wanted"] or not math.isnan(line["paper"])}
    return DataFrame([x for x in lines if x["row"] in known], columns=COLUMNS.split())


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def results_page(frame: "DataFrame", experiment: Experiment, config: Config) -> Page:
    """Turn the collated frame into a page of tables and their notes.

    A cell contains our number and, below it, the paper's number with our difference in the paper's
    metric. Our best number in a column is bold.
    """
    lines: list[Any] = list(frame.itertuples())
    cells = {(c.row, (c.panel, c.labels, c.protocol, c.metric)): c for c in lines}
    columns = list(dict.fromkeys(column for _, column in cells))
    texts = list(dict.fromkeys(text for text in [*frame["flag"], *frame["note"]] if text))
    corner = experiment.x_label
    body = [_result_table(cells, group, texts, corner) for group in side_by_side(columns)]
    return experiment_page(experiment, config, [*body, *_notes(frame, experiment, texts)])


def side_by_side(columns: Sequence[Column]) -> list[list[Column]]:
    """Group columns into tables of at most `WIDTH` columns, and keep a panel's columns together."""
    tables: list[list[Column]] = []
    for _, panel in groupby(columns, key=lambda column: column[0]):
        added = list(panel)
        if not tables or len(tables[-1]) + len(added) > WIDTH:
            tables.append([])
        tables[-1] += added
    return tables


def _result_table(
    cells: Mapping[tuple[str, Column], Any], columns: list[Column], texts: list[str], corner: str
) -> Table:
    best = {}
    for column in columns:
        means = [c.ours_mean for (_, place), c in cells.items() if place == column and c.n]
        best[column] = f"{max(means):.1f}" if len(means) > 1 else ""
    lines: list[list[str | TableCell]] = [[corner, *(tuple(column_parts(c)) for c in columns)]]
    for row in dict.fromkeys(row for row, column in cells if column in columns):
        line = [(cells.get((row, column)), best[column]) for column in columns]
        lines.append([row, *("" if c is None else _cell(c, top, texts) for c, top in line)])
    return grid(lines)


def _cell(cell: Any, best: str, texts: list[str]) -> TableCell:
    """Format a cell: `**81.2** ± 0.4`, ours in the paper's metric, the paper's, the difference.

    The mark of a footnote follows the number that it explains.
    """
    ours = f"{cell.ours_mean:.1f}" if cell.n else "–"
    if ours == best:
        ours = f"**{ours}**"
    if cell.n > 1:
        ours += f" ± {cell.ours_std:.1f}"
    if 0 < cell.n < cell.wanted:
        ours += f" (n = {cell.n})"
    if cell.note:
        ours += _mark(texts.index(cell.note))
    lines = [ours]
    if not math.isnan(cell.by_paper_metric):
        lines.append(f"per batch {cell.by_paper_metric:.1f}")
    if math.isnan(cell.paper):
        return tuple(lines)
    mark = _mark(texts.index(cell.flag)) if cell.flag else ""
    difference = f" ({cell.difference:+.1f})".replace("-", "−") if cell.n else ""
    return (*lines, f"paper {cell.paper:.1f}{mark}{difference}")


def _mark(number: int) -> str:
    """Return the mark of a footnote: a, b, ..., z, aa, ab, ..."""
    more, last = divmod(number, len(ascii_lowercase))
    first = ascii_lowercase[more - 1] if more else ""
    return f"<sup>{first}{ascii_lowercase[last]}</sup>"


def _notes(frame: "DataFrame", experiment: Experiment, texts: list[str]) -> list[str]:
    """Write the notes of a table: how to read cells, missing results, special rows and numbers."""
    if frame.empty:
        return []
    seeds, done, wanted = frame["wanted"].max(), frame["n"].sum(), frame["wanted"].sum()
    spread = f"mean ± sample standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    text = f"Percent, {spread}; our best number per column is bold."
    if frame["by_paper_metric"].notna().any():
        text += (
            " Per batch: our number in the paper's metric, the mean over batches of 64. The "
            "difference from the paper is in this metric."
        )
    if frame["paper"].notna().any():
        text += " Paper: the paper's number, and in brackets ours minus the paper's."
    if (frame["n"] == 0).any():
        text += " –: no result yet."
    notes = [text]
    if done < wanted:
        notes.append(f"**Incomplete: {done} of {wanted} results are finished.**")
    protocols = set(frame["protocol"])
    fixed = [
        f"{row.label} uses {row.protocol}"
        for row in experiment.rows
        if row.protocol in ("linear", "fine-tune") and protocols - {row.protocol}
    ]
    if fixed:
        notes.append(f"In every column, {', '.join(fixed)}.")
    for row in experiment.rows:
        for column, own in row.protocol.items() if isinstance(row.protocol, dict) else ():
            if column in protocols and row.label in set(frame["row"]):
                notes.append(f"{row.label} uses {own} in the columns of {column}.")
    return notes + [f"{_mark(i)} {_footnote(text)}" for i, text in enumerate(texts)]


def _footnote(text: str) -> str:
    """Format a flag of the paper's numbers, or in bold a note on ours."""
    if text.startswith("SUSPECT"):
        return text.replace("SUSPECT:", "The paper's number is suspect:")
    return f"**{text}**"
