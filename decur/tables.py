"""Collate what the runs measured, beside the paper's numbers, into tables and figures."""

import importlib
import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from decur import claims
from decur.config import EXPLAINERS, Config, pretrain_settings
from decur.experiments import (
    Column,
    Experiment,
    column_parts,
    entries,
    explain_runs,
    transfer_runs,
)
from decur.files import write_atomically
from decur.latex import as_latex
from decur.markdown import as_markdown
from decur.pages import Cell, Page, Result, Table, grid, page
from decur.paper import paper_cell
from decur.paths import Paths
from decur.provenance import file_checksum, fingerprint, provenance, write_json
from decur.scores import scores

if TYPE_CHECKING:  # the workflow asks for `outputs` often, and pandas is slow to load
    from pandas import DataFrame

PACKAGES = ("numpy", "pandas", "scipy", "matplotlib")

WIDTH = 4
"""Result columns that are readable side by side; further ones go into a table below."""


def has_figure(experiment: Experiment) -> bool:
    """Tables of probes, and what is no table, are drawn; other tables, and claims, are read."""
    probes = [p.startswith("probe") for panel in experiment.panels for p in panel.protocols]
    return experiment.kind not in ("table", "claims") or (bool(probes) and all(probes))


def outputs(name: str, experiment: Experiment, paths: Paths) -> dict[str, str]:
    """The files that `write_experiment` makes: `csv`, `md`, `tex`, `json`.

    Where something is drawn `figure` (PNG) and `vector` (SVG) too. The JSON says what the others
    were made from.
    """
    found = {suffix: paths.table(name, suffix) for suffix in ("csv", "md", "tex", "json")}
    if has_figure(experiment):
        found |= {"figure": paths.figure(name), "vector": paths.figure(name, "svg")}
    return found


def sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The products that an experiment is collated from, made already or not."""
    return KINDS[experiment.kind].sources(experiment, config, paths)


def write_experiment(name: str, experiment: Experiment, config: Config, paths: Paths) -> None:
    """Write the outputs of an experiment; the same results give the same bytes.

    Raises:
        DecurError: a result file is damaged.
    """
    result = KINDS[experiment.kind].result(experiment, config, paths)
    made = outputs(name, experiment, paths)
    csv = result.frame.to_csv(index=False, float_format=result.float_format)
    _write(made["csv"], csv.encode())
    _write(made["md"], as_markdown(result.page).encode())
    _write(made["tex"], as_latex(result.page).encode())
    if "figure" in made:
        for shown, image in result.draw().items():
            _write(made[shown], image)
    write_json(Path(made["json"]), _origin(name, experiment, config, paths))


def _metrics(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    wanted = transfer_runs([experiment], config)
    return [paths.metrics(str(run), str(cell)) for run, cells in wanted.items() for cell in cells]


def _table(experiment: Experiment, config: Config, paths: Paths) -> Result:
    from decur import figures

    frame = collate(experiment, config, paths)
    draw = figures.curves if experiment.kind == "curve" else figures.bars
    said = results_page(frame, experiment, config)
    return Result(frame, said, partial(draw, frame, experiment))


def _gallery_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    wanted = transfer_runs([experiment], config)
    datasets = {cell.dataset for cells in wanted.values() for cell in cells}
    cards = [paths.card(dataset) for dataset in sorted(datasets)]
    return [*_metrics(experiment, config, paths), *cards]


def _gallery(experiment: Experiment, config: Config, paths: Paths) -> Result:
    from decur import gallery

    blocks = gallery.collate(experiment, config, paths)
    said = gallery.gallery_page(blocks, experiment, config)
    return Result(gallery.accuracies(blocks), said, partial(gallery.draw, blocks))


def _claims(experiment: Experiment, config: Config, paths: Paths) -> Result:
    frame = claims.collate(experiment, config, paths)
    return Result(frame, claims.claims_page(frame, experiment, config))


def _explained_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    runs = explain_runs([experiment], config)
    return [paths.explain(str(run), kind) for run, kind in runs]


def _gradcam_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The shards too, whose images the maps lie over."""
    runs = [run for run, _ in explain_runs([experiment], config)]
    datasets = sorted({pretrain_settings(config, run).dataset for run in runs})
    maps = _explained_sources(experiment, config, paths)
    return [*maps, *(paths.card(dataset) for dataset in datasets)]


def _share_sources(experiment: Experiment, config: Config, paths: Paths) -> list[str]:
    """The grid that the estimates are to save, too."""
    explained = _explained_sources(experiment, config, paths)
    return [*_metrics(experiment, config, paths), *explained]


def _explained(experiment: Experiment, config: Config, paths: Paths) -> Result:
    module = importlib.import_module(f"decur.explained.{experiment.kind}")
    result: Result = module.result(experiment, config, paths)
    return result


class Kind(NamedTuple):
    """What an experiment of a kind reads, and what becomes of that."""

    sources: Callable[[Experiment, Config, Paths], list[str]]
    result: Callable[[Experiment, Config, Paths], Result]


KINDS = {
    "table": Kind(_metrics, _table),
    "curve": Kind(_metrics, _table),
    "gallery": Kind(_gallery_sources, _gallery),
    "claims": Kind(claims.sources, _claims),
    **dict.fromkeys(EXPLAINERS, Kind(_explained_sources, _explained)),
    "gradcam": Kind(_gradcam_sources, _explained),
    "share": Kind(_share_sources, _explained),
}


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
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(content))


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
        found = list(scores(entry, paths).values())
        mean = statistics.fmean(found) if found else math.nan
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
                "ours_std": statistics.stdev(found) if len(found) > 1 else math.nan,
                "n": len(found),
                "wanted": len(entry.runs),
                "paper": paper,
                "difference": mean - paper,
                "flag": flag,
            }
        )
    names = "row x panel labels protocol metric ours_mean ours_std n wanted paper difference flag"
    return DataFrame(lines, columns=names.split())


def results_page(frame: "DataFrame", experiment: Experiment, config: Config) -> Page:
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
) -> Table:
    best = {}
    for column in columns:
        means = [c.ours_mean for (_, place), c in cells.items() if place == column and c.n]
        best[column] = f"{max(means):.1f}" if len(means) > 1 else ""
    lines: list[list[str | Cell]] = [[corner, *(tuple(column_parts(c)) for c in columns)]]
    for row in dict.fromkeys(row for row, column in cells if column in columns):
        found = [(cells.get((row, column)), best[column]) for column in columns]
        lines.append([row, *("" if c is None else _cell(c, top, flags) for c, top in found)])
    return grid(lines)


def _cell(cell: Any, best: str, flags: list[str]) -> Cell:
    """`**81.2** ± 0.4`, and below it the paper's number, its footnote and our difference."""
    ours = f"{cell.ours_mean:.1f}" if cell.n else "–"
    if ours == best:
        ours = f"**{ours}**"
    if cell.n > 1:
        ours += f" ± {cell.ours_std:.1f}"
    if 0 < cell.n < cell.wanted:
        ours += f" (n = {cell.n})"
    if math.isnan(cell.paper):
        return (ours,)
    mark = _mark(flags.index(cell.flag)) if cell.flag else ""
    difference = f" ({cell.difference:+.1f})".replace("-", "−") if cell.n else ""
    return ours, f"paper {cell.paper:.1f}{mark}{difference}"


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
