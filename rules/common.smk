# Config, paths and the runs that the experiments ask for; nothing here computes.
import hashlib
import os
import re
import sys
from itertools import takewhile
from pathlib import Path

from snakemake.sourcecache import LocalSourceFile

from decur.cluster.lock import claim, holder, is_gone, release
from decur.config import (
    EXPLAINERS,
    Piece,
    explain_settings,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.config.yaml_file import read_yaml
from decur.errors import DecurError
from decur.config.experiments import (
    check_cells,
    chosen_experiments,
    entries,
    explain_runs,
    load_experiments,
    pretrain_runs,
    transfer_runs,
)
from decur.cluster.signals import hold_warning
from decur.artifacts.paths import Cell, Paths, Run
from decur.planning.rerun import (
    download_identity,
    identity,
    in_pieces_as_made,
    preprocess_identity,
    pretrain_identity,
)
from decur.cluster.slurm import mark_own_job
from decur.tables.run import outputs, sources
from decur.cluster.user import provide_user

# Snakemake asks for the user's name when it begins, and jobs inherit what is set here.
provide_user()


def own_file(path):
    """A file of this repository, which is fetched where another workflow uses this one from afar."""
    source = workflow.current_basedir.join(f"../{path}")
    if isinstance(source, LocalSourceFile):
        return os.path.normpath(source)
    return workflow.source_path(f"../{path}")


# Without a config file, the demo.
if "scale" not in config:

    configfile: own_file("config/demo.yaml")


EXPERIMENTS_FILE = own_file("config/experiments.yaml")

try:
    for file in workflow.configfiles:
        read_yaml(
            file
        )  # Snakemake, which has read it, takes the last of a key that is given twice
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

# SLURM warns every process of a job step. The job itself answers, by saving what it has done; the
# Snakemake around it must live until then.
hold_warning()


def sent_for_one_job():
    """Whether SLURM's executor submitted this SLURM job, for a single job and not for a group."""
    if not {"slurm-jobstep", "--target-jobs"} <= {*sys.argv}:
        return False
    rest = sys.argv[sys.argv.index("--target-jobs") + 1 :]
    return len(list(takewhile(lambda word: not word.startswith("--"), rest))) == 1


# A later job of the same run may end this one, if it is left over. The calls of Snakemake within this
# one, and their commands, inherit the mark.
if sent_for_one_job():
    mark_own_job()

# profiles/default, which Snakemake reads beside any other profile, gives the cores of this machine. They
# must not bind what a job takes of another.
if workflow.is_main_process and workflow.non_local_exec:
    workflow.global_resources["_cores"] = None

# One Snakemake at a time works on the results of a scale, wherever it was started.
CLAIM = Path(PATHS.root) / "owner.json"


def claim_results():
    try:
        claim(CLAIM)
    except DecurError as error:
        raise WorkflowError(str(error))


def explain_lock():
    """Whether the lock that Snakemake may find in this folder is in use, and what to do."""
    owner = holder(CLAIM)
    locked = any(Path(".snakemake/locks").glob("*"))
    if owner is None or not locked or not workflow.is_main_process:
        return
    try:
        gone = is_gone(owner)
    except DecurError:  # SLURM, which alone would know, does not answer
        gone = None
    advice = {
        True: "was left by {}, which is gone: unlock it by `snakemake --unlock`",
        False: "is in use by {}: wait for it or end it",
        None: "is of {}, which may be at work: if not, `snakemake --unlock`",
    }[gone]
    print(f"decur: the lock of this folder {advice.format(owner)}", file=sys.stderr)


explain_lock()


def tell_unused():
    """Name the methods of the config that nothing is pretrained for."""
    unused = [m for m in CONFIG.methods if m not in {run.method for run in RUNS}]
    if unused and workflow.is_main_process:
        print(
            f"decur: methods: {', '.join(unused)}: not pretrained, as no experiment has a row of it"
            " in a scenario of this config, or the file of ImageNet weights is not given",
            file=sys.stderr,
        )


tell_unused()


wildcard_constraints:
    dataset="[a-z0-9-]+",
    run="[^/]+/[^/]+/[^/]+/seed-[0-9]+",


# The package of this interpreter, whichever environment a job starts in; a bug's traceback in its log.
BIN = str(Path(sys.executable).parent)
shell.prefix("set -euo pipefail; export DECUR_TRACEBACK=1 PATH={BIN:q}:$PATH; ")


def digest(tree):
    """A short fingerprint: as a parameter it makes a job run again when what it reads changes."""
    return hashlib.sha256(repr(tree).encode()).hexdigest()[:16]


def transfer_sets():
    """The runs of each set of cells."""
    sets = {}
    for run, cells in TRANSFERS.items():
        sets.setdefault(tuple(cells), []).append(run)
    return sets


# Each job of a stage has its settings as two parameters. `identity` has those that decide its results,
# and Snakemake runs the job again when it changes. `settings` has all, for the command: Snakemake does
# not compare a parameter whose function takes `output`.


def transfer_of(run, cells):
    return transfer_settings(CONFIG, Run.parse(run), list(cells))


def explain_of(w):
    return explain_settings(CONFIG, Run.parse(w.run), w.kind)


def preprocess_of(w):
    return in_pieces_as_made(w.dataset, CONFIG.datasets[w.dataset], PATHS)


def pieces_of(w):
    """What several jobs leave of a dataset; of a single job nothing."""
    count = preprocess_of(w).pieces
    pieces = range(1, count + 1) if count > 1 else ()
    return [PATHS.piece(w.dataset, str(Piece(number, count))) for number in pieces]


def download_json(w, output):
    """What the job reads: of the stored samples nothing, unless scenes are drawn for them."""
    settings = CONFIG.datasets[w.dataset]
    if settings.source == "scenes":
        return settings.model_dump_json()
    return settings.model_dump_json(
        exclude={"pixels", "modalities", "seasons", "bad_samples", "pieces"}
    )
