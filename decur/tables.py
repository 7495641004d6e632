"""Collate what the runs measured, beside the paper's numbers, into CSV, Markdown and figures."""

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decur.config import Config
from decur.errors import DecurError
from decur.experiments import (
    Column,
    Entry,
    Experiment,
    alignment_runs,
    column_parts,
    entries,
    scenario_name,
    share_runs,
    transfer_runs,
)
from decur.markdown import grid, page
from decur.paper import paper_cell
from decur.paths import Paths
from decur.provenance import file_checksum, fingerprint, provenance, write_json

if TYPE_CHECKING:  # the workflow asks for `outputs` often, and pandas is slow to load
    from pandas import DataFrame

PACKAGES = ("numpy", "pandas", "matplotlib")

WIDTH = 4
"""Result columns that are readable side by side; further ones go into a table below."""


def has_figure(experiment: Experiment) -> bool:
    """Tables of probes, and what is no table, are drawn; other tables are read."""
    probes = (p.startswith("probe") for panel in experiment.panels for p in panel.protocols)
    return experiment.kind != "table" or all(probes)


def outputs(name: str, experiment: Experiment, paths: Paths) -> dict[str, str]:
    """The files that `write_experiment` makes: `csv`, `md`, `json`, and `figure` if there is one.

    The JSON says what the others were made from.
    """
    found = {suffix: paths.table(name, suffix) for suffix in ("csv", "md", "json")}
    if has_figure(experiment):
        found["figure"] = paths.figure(name)
    return found


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The products that an experiment is collated from, made already or not."""
    if experiment.kind == "histogram":
        return [paths.alignment(str(run)) for run in alignment_runs([experiment], config)]
    wanted = transfer_runs([experiment], config)
    products = [
        paths.metrics(str(run), str(cell)) for run, cells in wanted.items() for cell in cells
    ]
    products += [paths.share(str(run)) for _, run in share_runs(experiment, config)]
    if experiment.kind != "gallery":
        return products
    datasets = {cell.dataset for cells in wanted.values() for cell in cells}
    return [*products, *(paths.card(dataset) for dataset in sorted(datasets))]


def write_experiment(name: str, experiment: Experiment, config: Config, paths: Paths) -> None:
    """Write the outputs of an experiment; the same results give the same bytes.

    Raises:
        DecurError: a result file is damaged.
    """
    from decur import figures, gallery, shares

    if experiment.kind == "histogram":
        losses = figures.alignment_losses(experiment, config, paths)
        frame, text = figures.bins(losses), alignment_markdown(losses, experiment, config)
        draw = partial(figures.histogram, frame, experiment)
    elif experiment.kind == "gallery":
        blocks = gallery.collate(experiment, config, paths)
        frame, text = gallery.accuracies(blocks), gallery.markdown(blocks, experiment, config)
        draw = partial(gallery.draw, blocks)
    elif experiment.kind == "share":
        curves = collate(experiment, config, paths)
        found = shares.estimates(experiment, config, paths)
        frame = shares.compare(curves, found, experiment)
        text = shares.markdown(frame, found, experiment, config)
        draw = partial(figures.curves, curves, experiment, shares.of_all_common(found))
    else:
        frame = collate(experiment, config, paths)
        text = markdown(frame, experiment, config)
        kind = figures.curves if experiment.kind == "curve" else figures.bars
        draw = partial(kind, frame, experiment)
    made = outputs(name, experiment, paths)
    _write(made["csv"], frame.to_csv(index=False, float_format="%.4f").encode())
    _write(made["md"], text.encode())
    if "figure" in made:
        _write(made["figure"], draw())
    write_json(Path(made["json"]), _origin(name, experiment, config, paths))


def _origin(name: str, experiment: Experiment, config: Config, paths: Paths) -> dict[str, Any]:
    """Where an experiment's files are from, without a time: equal results give equal bytes."""

    def inside(path: str) -> str:
        return str(Path(path).relative_to(paths.root))

    found = [path for path in sources(experiment, config, paths) if Path(path).is_file()]
    folder = Path(paths.table(name, "json")).parent
    made = [path for kind, path in outputs(name, experiment, paths).items() if kind != "json"]
    settings = {
        "name": name,
        "scale": config.scale,
        "seeds": config.seeds,
        "methods": config.methods,
        "experiment": experiment.model_dump(mode="json"),
    }
    inputs = {inside(path): fingerprint(Path(path)) for path in found}
    return {
        "files": {os.path.relpath(p, folder): file_checksum(Path(p)) for p in made},
        "provenance": provenance(settings, inputs, PACKAGES),
    }


def _write(path: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.part")
    temporary.write_bytes(content)
    temporary.replace(final)


def collate(experiment: Experiment, config: Config, paths: Paths) -> "DataFrame":
    """What has been measured so far, one line a cell, in percent.

    Columns: row, x, panel, labels, protocol, metric, ours_mean, ours_std (sample standard
    deviation), n (seeds found), wanted (seeds asked for), paper, difference (ours - paper), and
    flag (why the paper's number is suspect).

    Raises:
        DecurError: a metrics file is damaged or lacks the metric.
    """
    from pandas import DataFrame

    lines = []
    for entry in entries(experiment, config):
        found = (_score(Path(paths.metrics(str(r), str(entry.cell))), entry) for r in entry.runs)
        scores = [score for score in found if score is not None]
        mean = statistics.fmean(scores) if scores else math.nan
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
                "ours_std": statistics.stdev(scores) if len(scores) > 1 else math.nan,
                "n": len(scores),
                "wanted": len(entry.runs),
                "paper": paper,
                "difference": mean - paper,
                "flag": flag,
            }
        )
    names = "row x panel labels protocol metric ours_mean ours_std n wanted paper difference flag"
    return DataFrame(lines, columns=names.split())


def _score(path: Path, entry: Entry) -> float | None:
    """A metric of a metrics.json; None where the run has not been made yet."""
    if not path.is_file():
        return None
    try:
        metrics = json.loads(path.read_text())
        absent = entry.panel.missing
        for key in ["missing", *absent.split("/")] if absent else ["metrics"]:
            metrics = metrics[key]
        score = float(metrics[entry.metric])
    except (ValueError, KeyError, TypeError):
        score = math.nan
    if not math.isfinite(score):
        raise DecurError(f"{path}: holds no number for '{entry.metric}'; delete it and run again")
    return score


def markdown(frame: "DataFrame", experiment: Experiment, config: Config) -> str:
    """The collated frame as a page: what it is, the tables, and their notes.

    A cell holds ours and below it the paper's number with our difference; the best of ours in a
    column is bold.
    """
    lines: list[Any] = list(frame.itertuples())
    cells = {(c.row, (c.panel, c.labels, c.protocol, c.metric)): c for c in lines}
    columns = list(dict.fromkeys(column for _, column in cells))
    flags = list(dict.fromkeys(flag for flag in frame["flag"] if flag))
    corner = experiment.x_label
    body = [_result_table(cells, group, flags, corner) for group in side_by_side(columns)]
    return page(experiment, config, [*body, *_notes(frame, experiment, flags)])


def side_by_side(columns: Sequence[Column]) -> list[list[Column]]:
    """Columns grouped into tables of at most `WIDTH`; those of one panel stay together."""
    tables: list[list[Column]] = []
    for _, panel in groupby(columns, key=lambda column: column[0]):
        wanted = list(panel)
        if not tables or len(tables[-1]) + len(wanted) > WIDTH:
            tables.append([])
        tables[-1] += wanted
    return tables


def _result_table(
    cells: Mapping[tuple[str, Column], Any], columns: list[Column], flags: list[str], corner: str
) -> str:
    best = {}
    for column in columns:
        means = [c.ours_mean for (_, place), c in cells.items() if place == column and c.n]
        best[column] = f"{max(means):.1f}" if len(means) > 1 else ""
    lines = [[corner, *("<br>".join(column_parts(column)) for column in columns)]]
    for row in dict.fromkeys(row for row, column in cells if column in columns):
        found = [(cells.get((row, column)), best[column]) for column in columns]
        lines.append([row, *("" if c is None else _cell(c, top, flags) for c, top in found)])
    return grid(lines)


def _cell(cell: Any, best: str, flags: list[str]) -> str:
    """`**81.2** ± 0.4`, and below it the paper's number, its footnote and our difference."""
    ours = f"{cell.ours_mean:.1f}" if cell.n else "–"
    if ours == best:
        ours = f"**{ours}**"
    if cell.n > 1:
        ours += f" ± {cell.ours_std:.1f}"
    if 0 < cell.n < cell.wanted:
        ours += f" (n = {cell.n})"
    if math.isnan(cell.paper):
        return ours
    mark = _mark(flags.index(cell.flag)) if cell.flag else ""
    difference = f" ({cell.difference:+.1f})".replace("-", "−") if cell.n else ""
    return f"{ours}<br>paper {cell.paper:.1f}{mark}{difference}"


def _mark(number: int) -> str:
    return f"<sup>{chr(ord('a') + number)}</sup>"


def _notes(frame: "DataFrame", experiment: Experiment, flags: list[str]) -> list[str]:
    """What the cells mean, what is missing, what is special about a row or a paper's number."""
    if frame.empty:
        return []
    seeds, done, wanted = frame["wanted"].max(), frame["n"].sum(), frame["wanted"].sum()
    spread = f"mean ± sample standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
    text = f"Percent, {spread}; the best of ours in bold."
    if frame["paper"].notna().any():
        text += " Second line: the paper's number, and in brackets ours minus the paper's."
    if (frame["n"] == 0).any():
        text += " –: no result of ours."
    notes = [text]
    if done < wanted:
        notes.append(f"**Incomplete: {done} of {wanted} results are in.**")
    protocols = set(frame["protocol"])
    fixed = [
        f"{row.label} is always {row.protocol}"
        for row in experiment.rows
        if row.protocol in ("linear", "fine-tune") and protocols - {row.protocol}
    ]
    if fixed:
        notes.append(f"Whatever the column says, {', '.join(fixed)}.")
    suspect = "The paper's number is suspect:"
    notes += [f"{_mark(i)} {f.replace('SUSPECT:', suspect)}" for i, f in enumerate(flags)]
    return notes


def alignment_markdown(losses: "DataFrame", experiment: Experiment, config: Config) -> str:
    """The mean alignment loss of every method and part, as a page."""
    lines = [["Scenario", "Method", "Dimensions", "Number", "Mean loss"]]
    for key, found in losses.groupby(["scenario", "row", "part"], sort=False):
        scenario, row, part = map(str, key)
        mean = f"{found['loss'].mean():.3f}"
        lines.append([scenario_name(scenario), row, part, str(len(found)), mean])
    note = (
        "A dimension's loss is its mean over the batches; one run a method, the first seed's. "
        "The figure counts what is above 1 in its last bin."
    )
    body = [grid(lines), note] if len(lines) > 1 else ["No alignment has been measured yet."]
    return page(experiment, config, body)
