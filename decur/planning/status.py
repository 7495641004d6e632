"""Show the progress of a scale: `decur status`.

The module reads only the results folder: records of artifacts, logs of jobs, claim files, and the
configuration that the workflow wrote first. The folder may be incomplete, and nothing is changed.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from decur.artifacts.paths import ARTIFACTS, WILDCARDS, ArtifactKind, Paths, identify
from decur.artifacts.provenance import read_json
from decur.artifacts.records import RECORDS, Record
from decur.artifacts.timing import JobRecord
from decur.cluster.lock import holder, is_gone
from decur.config import parse_config
from decur.config.experiments import (
    chosen_experiments,
    explain_runs,
    load_experiments,
    pretrain_runs,
    transfer_runs,
)
from decur.errors import DecurError
from decur.planning.columns import as_columns

HOUR = 3600
TAIL = 4096
"""Bytes read from the end of a log."""

SHOWN = 20
"""Most lines printed about running jobs, and about failed jobs."""

ERROR = "decur: error: "
WITHOUT_RECORD = ("config", "report")
"""Jobs of the last stage without a table."""

State = Literal["done", "running", "failed", "waiting"]
STATES = get_args(State)

STAGES: dict[str, tuple[ArtifactKind, str]] = {
    "download": ("manifest", "{dataset}"),
    "preprocess": ("card", "{dataset}"),
    "pretrain": ("weights", "{run}"),
    "transfer": ("metrics", "{run}/{cell}"),
    "explain": ("explanation", "{run}/{explainer}"),
    "tables": ("table", "{name}"),
}
"""The artifact of each stage, and the name template of its logs and benchmarks."""


@dataclass(frozen=True)
class Item:
    """One artifact of a stage, and the other files that its job writes."""

    stage: str
    name: str
    record: Path
    logs: tuple[Path, ...]
    benchmark: Path
    claim: Path | None = None

    @cached_property
    def log(self) -> Path | None:
        """The newest existing log."""
        there = [(path.stat().st_mtime, path) for path in self.logs if path.is_file()]
        return max(there)[1] if there else None


@dataclass(frozen=True)
class Progress:
    """The state of an item, the last line of its log, and its job if it is recorded."""

    item: Item
    state: State
    line: str = ""
    job: JobRecord | None = None

    @property
    def hours(self) -> float:
        """Duration of the job in hours, from its record or else from Snakemake's benchmark."""
        seconds = self.job.seconds if self.job is not None else _measured(self.item.benchmark)
        return seconds / HOUR if self.state == "done" else 0.0

    @property
    def gpu_hours(self) -> float:
        """The hours times the number of GPUs."""
        return 0.0 if self.job is None else self.hours * self.job.gpus


def status(roots: Iterable[Path], width: int | None = None) -> str:
    """Describe each folder `results/<scale>`: a table by stage, then running and failed jobs."""
    return "\n\n".join(_describe(root, width) for root in roots) or "No results yet."


def scales(results: Path) -> list[Path]:
    """List the folders of scales below a results folder."""
    return sorted(p for p in results.iterdir() if p.is_dir()) if results.is_dir() else []


def look(root: Path) -> list[Progress]:
    """Return the state of every item of the workflow below `root`."""
    since = _since(Path(_paths(root).claim()))
    return [_progress(item, since) for item in items(root)]


def items(root: Path) -> list[Item]:
    """List the planned items, and all other items with a record or a log."""
    paths = _paths(root)
    several = (*_planned(paths), *_recorded(paths), *_logged(paths))
    found = {(item.stage, item.name): item for item in several}
    order = [*STAGES]
    return sorted(found.values(), key=lambda item: (order.index(item.stage), item.name))


def _paths(root: Path) -> Paths:
    root = root.absolute()
    return Paths(str(root.parent), root.name)


def _item(paths: Paths, stage: str, **identity: str) -> Item:
    kind, template = STAGES[stage]
    name = template.format(**identity)
    logs = [Path(paths.log(stage, name))]
    if stage == "preprocess":
        logs += logs[0].with_suffix(".pieces").glob("*.log")
    if stage == "transfer":  # one job may evaluate all cells of a run
        logs.append(Path(paths.log(stage, identity["run"])))
    claim = Path(paths.pretrain(identity["run"])) / "owner.json" if stage == "pretrain" else None
    record = Path(paths.root) / ARTIFACTS[kind].format(**identity)
    return Item(stage, name, record, tuple(logs), Path(paths.benchmark(stage, name)), claim)


def _planned(paths: Paths) -> Iterator[Item]:
    """List the items that the configuration in the results folder requests, if there is one."""
    try:
        config = parse_config(read_json(Path(paths.config())), paths.config())
        experiments = chosen_experiments(load_experiments(paths.experiments()), config)
        cells = transfer_runs(experiments.values(), config)
        runs = pretrain_runs([*experiments.values()], config)
        explained = explain_runs(experiments.values(), config)
    except (DecurError, OSError):  # missing or damaged
        return
    for dataset in config.datasets:
        yield _item(paths, "download", dataset=dataset)
        yield _item(paths, "preprocess", dataset=dataset)
    yield from (_item(paths, "pretrain", run=str(run)) for run in runs)
    for run, several in cells.items():
        yield from (_item(paths, "transfer", run=str(run), cell=str(cell)) for cell in several)
    for run, kind in explained:
        yield _item(paths, "explain", run=str(run), explainer=kind)
    yield from (_item(paths, "tables", name=name) for name in experiments)


def _recorded(paths: Paths) -> Iterator[Item]:
    """List the items that have a record."""
    several = {"run": "*/*/*/seed-*", "cell": "*/*/*/labels-*"}
    for stage, (kind, _) in STAGES.items():
        pattern = re.sub(r"\{(\w+)\}", lambda key: several.get(key[1], "*"), ARTIFACTS[kind])
        for path in Path(paths.root).glob(pattern):
            place = identify(path)
            if place is not None and place.kind == kind:
                yield _item(paths, stage, **place.identity)


def _logged(paths: Paths) -> Iterator[Item]:
    """List the items whose job wrote a log."""
    for stage, (_, template) in STAGES.items():
        folder = Path(paths.log(stage, "any")).parent
        wildcard = re.sub(r"\{(\w+)\}", lambda key: f"(?P<{key[1]}>{WILDCARDS[key[1]]})", template)
        for path in folder.rglob("*.log"):
            found = re.fullmatch(wildcard, str(path.relative_to(folder)).removesuffix(".log"))
            if found is not None and not (stage == "tables" and path.stem in WITHOUT_RECORD):
                yield _item(paths, stage, **found.groupdict())


def _progress(item: Item, since: float | None) -> Progress:
    """Return the state of an item; `since` is when a running Snakemake started, or None."""
    if item.record.is_file():
        try:
            return Progress(item, "done", job=_read(item).job)
        except (DecurError, OSError) as error:
            return Progress(item, "failed", str(error))
    line = "" if item.log is None else last_line(item.log)
    if item.claim is not None and _is_at_work(item.claim):
        return Progress(item, "running", line)
    if item.log is None:
        return Progress(item, "waiting")
    begun = since is not None and item.log.stat().st_mtime >= since
    if begun and not line.startswith(ERROR):
        return Progress(item, "running", line)
    return Progress(item, "failed", line)


def _read(item: Item) -> Record:
    return RECORDS[STAGES[item.stage][0]].read(item.record)


def _is_at_work(claim: Path) -> bool:
    """Check whether the owner of a claim is running, or may be running."""
    owner = holder(claim)
    try:
        return owner is not None and is_gone(owner) is not True
    except DecurError:  # only SLURM could decide, and it does not answer
        return True


def _since(claim: Path) -> float | None:
    """Return the time at which a running Snakemake started; None if none is running."""
    try:
        return claim.stat().st_mtime if _is_at_work(claim) else None
    except OSError:
        return None


def last_line(log: Path) -> str:
    """Return the last error line of a log, else its last line, or ""."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"{log}: cannot be read ({error.strerror})"
    lines = ["".join(filter(str.isprintable, line)).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.startswith(ERROR)]
    return (errors or lines or [""])[-1]


def _measured(benchmark: Path) -> float:
    """Read the duration [s] that Snakemake measured; 0 if there is none."""
    try:
        with benchmark.open(newline="", encoding="utf-8") as file:
            return float(next(csv.DictReader(file, delimiter="\t"))["s"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return 0.0


def _describe(root: Path, width: int | None) -> str:
    paths, found = _paths(root), look(root)
    owner = holder(Path(paths.claim()))
    working = owner is not None and _is_at_work(Path(paths.claim()))
    head = f"{root}: " + (f"{owner} is running" if working else "no Snakemake is running here")
    if not found:
        return f"{head}\nNothing has been made or planned yet."
    return "\n".join([head, "", _table(found, width), *_lines(found)])


def _table(found: Sequence[Progress], width: int | None) -> str:
    heads = ("stage", *STATES, "all", "hours", "GPU-hours")
    rows = []
    for stage in (*STAGES, "all"):
        those = [p for p in found if stage in (p.item.stage, "all")]
        counts = [sum(p.state == state for p in those) for state in STATES]
        hours = [sum(p.hours for p in those), sum(p.gpu_hours for p in those)]
        if those:
            numbers = [*map(str, (*counts, len(those))), *(f"{value:,.2f}" for value in hours)]
            rows.append((stage, *numbers))
    return as_columns(heads, rows, width, whole=heads, right=heads[1:])


def _lines(found: Sequence[Progress]) -> Iterator[str]:
    """List running jobs, and failed jobs with the last line of their logs."""
    for state in ("running", "failed"):
        those = [p for p in found if p.state == state]
        if those:
            yield f"\n{state}:"
        for p in those[:SHOWN]:
            reason = p.line or (f"see {p.item.log}" if state == "failed" else "")
            yield f"  {p.item.stage} {p.item.name}{reason and ': '}{reason}"
        if len(those) > SHOWN:
            yield f"  and {len(those) - SHOWN} more"
