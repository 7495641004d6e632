# Configuration, paths, and the runs that experiments request. Nothing here computes.
import hashlib
import logging
import os
import re
import sys
from pathlib import Path

from decur.artifacts.paths import Cell, Paths, Run
from decur.cluster.lock import claim, release
from decur.cluster.workflow import advice_on_lock, begin
from decur.config import (
    EXPLAINERS,
    Piece,
    explain_settings,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.config.architectures import MEAN_POOLED
from decur.config.experiments import (
    check_cells,
    chosen_experiments,
    entries,
    explain_runs,
    load_experiments,
    pretrain_runs,
    transfer_runs,
)
from decur.config.released import BY_NAME
from decur.config.yaml_file import read_yaml
from decur.errors import DecurError
from decur.planning.rerun import (
    download_identity,
    identity,
    in_pieces_as_made,
    preprocess_identity,
    pretrain_identity,
)
from decur.tables.run import outputs, sources

# This must run first: Snakemake soon queries the user's name, and jobs inherit the environment.
begin(sys.argv)


def own_file(path):
    """Find a file of this repository; fetch it if a remote workflow uses this one as a module."""
    local = os.path.normpath(Path(workflow.snakefile).parents[1] / path)
    return local if os.path.exists(local) else workflow.source_path(f"../{path}")


# The default is the demo.
if "scale" not in config:

    configfile: own_file("config/demo.yaml")


EXPERIMENTS_FILE = own_file("config/experiments.yaml")

# Snakemake documents no other way to list the files that it has read.
try:
    for file in workflow.configfiles:
        # Snakemake would silently use the last value of a repeated key.
        read_yaml(file)
    CONFIG = parse_config(config, " ".join(map(str, workflow.configfiles)) or "config")
    EXPERIMENTS = chosen_experiments(load_experiments(EXPERIMENTS_FILE), CONFIG)
    check_cells(EXPERIMENTS, CONFIG)
    TRANSFERS = transfer_runs(EXPERIMENTS.values(), CONFIG)
    EXPLAINED = explain_runs(EXPERIMENTS.values(), CONFIG)
    RUNS = pretrain_runs([*EXPERIMENTS.values()], CONFIG)
    SETTINGS = {str(run): pretrain_settings(CONFIG, run) for run in RUNS}
except DecurError as error:
    raise WorkflowError(str(error))

PATHS = Paths(CONFIG.results, CONFIG.scale)
RELEASED = {run for run, settings in SETTINGS.items() if settings.released}

# Only one Snakemake at a time may work on the results of a scale, on any machine.
CLAIM = Path(PATHS.claim())

# `decur plan` reads this record.
logging.getLogger("decur.workflow").debug(
    "resolved", extra={"config": CONFIG, "transfers": TRANSFERS}
)


def notices():
    """Collect notices for the user before anything runs."""
    yield advice_on_lock(CLAIM, Path(".snakemake/locks"))
    if unused := [m for m in CONFIG.methods if m not in {run.method for run in RUNS}]:
        yield (
            f"methods: {', '.join(unused)}: not pretrained, as no experiment has a row with them"
            " in a scenario of this config, or the file of their initial weights is not given"
        )


def one_of(names):
    """Make a pattern that matches any of the names, and nothing if there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


# Notices are not repeated in each job. Snakemake documents no other way to detect the main process.
if workflow.is_main_process:
    for notice in filter(None, notices()):
        print(f"decur: {notice}", file=sys.stderr)


# Only names of the config are allowed, so that Snakemake refuses a target with a misspelt name.
wildcard_constraints:
    dataset=one_of(CONFIG.datasets),
    run=one_of(SETTINGS),
    cell="[^/]+/[^/]+/[^/]+/labels-[^/]+",


# Jobs use the package of this interpreter in any environment. Their logs contain tracebacks of bugs.
BIN = str(Path(sys.executable).parent)
shell.prefix("set -euo pipefail; export DECUR_TRACEBACK=1 PATH={BIN:q}:$PATH; ")


def digest(tree):
    """Hash a value. As a parameter, the hash makes a job run again when the value changes."""
    return hashlib.sha256(repr(tree).encode()).hexdigest()[:16]


def prefixed(folder, output, path):
    """Prefix a folder like an output: a module's prefix precedes outputs, but not parameters."""
    return output.removesuffix(path) + folder


# Each job of a stage has its settings as two parameters. `identity` contains those that decide its
# results; Snakemake runs the job again when it changes. `settings` contains all, for the command;
# Snakemake does not compare a parameter whose function takes `output`.


def cells_of(w):
    """List the cells that a transfer job evaluates: one cell, or all cells of a run."""
    return [Cell.parse(w.cell)] if "cell" in w.keys() else TRANSFERS[Run.parse(w.run)]


def cards_of(w):
    return [PATHS.card(dataset) for dataset in sorted({c.dataset for c in cells_of(w)})]


def transfer_of(w):
    return transfer_settings(CONFIG, Run.parse(w.run), cells_of(w))


# If one job evaluates all cells of a run: the record that represents each metrics file, by path.
RECORDS = {
    PATHS.metrics(str(run), str(cell)): PATHS.transferred(str(run))
    for run, cells in TRANSFERS.items()
    for cell in cells
    if CONFIG.transfer_together
}


def made_by_jobs(paths):
    """List the outputs of the jobs that write the given files, each once."""
    return list(dict.fromkeys(RECORDS.get(path, path) for path in paths))


def explain_of(w):
    return explain_settings(CONFIG, Run.parse(w.run), w.kind)


def preprocess_of(w):
    return in_pieces_as_made(w.dataset, CONFIG.datasets[w.dataset], PATHS)


def pieces_of(w):
    """List the outputs of the pieces of a dataset; empty for a single job."""
    count = preprocess_of(w).pieces
    pieces = range(1, count + 1) if count > 1 else ()
    return [PATHS.piece(w.dataset, str(Piece(number, count))) for number in pieces]


def download_json(w, output):
    """Write the settings of a download. Settings of stored samples only matter for scenes."""
    settings = CONFIG.datasets[w.dataset]
    if settings.source == "scenes":
        return settings.model_dump_json()
    return settings.model_dump_json(
        exclude={"pixels", "modalities", "seasons", "bad_samples", "pieces"}
    )
