# Config, paths and the runs that the experiments ask for; nothing here computes.
import hashlib
import re
import sys

from decur.config import (
    Piece,
    alignment_settings,
    parse_config,
    pretrain_settings,
    transfer_settings,
)
from decur.errors import DecurError
from decur.experiments import (
    alignment_runs,
    chosen_experiments,
    entries,
    load_experiments,
    transfer_runs,
)
from decur.paths import Cell, Paths, Run
from decur.tables import outputs

EXPERIMENTS_FILE = str(HOME / "config" / "experiments.yaml")

try:
    CONFIG = parse_config(config, " ".join(map(str, workflow.configfiles)) or "config")
    EXPERIMENTS = chosen_experiments(load_experiments(EXPERIMENTS_FILE), CONFIG)
    TRANSFERS = transfer_runs(EXPERIMENTS.values(), CONFIG)
    ALIGNMENTS = alignment_runs(EXPERIMENTS.values(), CONFIG)
    RUNS = sorted({*TRANSFERS, *ALIGNMENTS})
    SETTINGS = {str(run): pretrain_settings(CONFIG, run) for run in RUNS}
except DecurError as error:
    raise WorkflowError(str(error))

PATHS = Paths(CONFIG.results, CONFIG.scale)


wildcard_constraints:
    dataset="[a-z0-9-]+",
    run="[^/]+/[^/]+/[^/]+/seed-[0-9]+",


# The package of this interpreter, whichever environment a job starts in.
shell.prefix(
    f"set -euo pipefail; export PATH={str(Path(sys.executable).parent)!r}:$PATH; "
)


def digest(tree):
    """A short fingerprint: as a parameter it makes a job run again when what it reads changes."""
    return hashlib.sha256(repr(tree).encode()).hexdigest()[:16]


def transfer_sets():
    """The runs of each set of cells."""
    sets = {}
    for run, cells in TRANSFERS.items():
        sets.setdefault(tuple(cells), []).append(run)
    return sets


def transfer_json(run, cells):
    return transfer_settings(CONFIG, Run.parse(run), list(cells)).model_dump_json()


def needed(experiment):
    """Products that an experiment is collated from."""
    if experiment.kind == "histogram":
        return [
            PATHS.alignment(str(run)) for run in alignment_runs([experiment], CONFIG)
        ]
    wanted = transfer_runs([experiment], CONFIG)
    products = {
        PATHS.metrics(str(run), str(cell)): cell
        for run in wanted
        for cell in wanted[run]
    }
    if experiment.kind == "gallery":  # whose predictions lie beside the metrics
        return [*products, *{PATHS.card(c.dataset): None for c in products.values()}]
    return [*products]


def preprocess_pieces(w):
    """What several jobs leave of a dataset; of a single job nothing."""
    count = CONFIG.datasets[w.dataset].pieces
    pieces = range(1, count + 1) if count > 1 else ()
    return [PATHS.piece(w.dataset, str(Piece(number, count))) for number in pieces]


def download_settings(w):
    """What the job reads: of the stored samples nothing, unless scenes are drawn for them."""
    settings = CONFIG.datasets[w.dataset]
    if settings.source == "scenes":
        return settings.model_dump_json()
    return settings.model_dump_json(
        exclude={"pixels", "modalities", "seasons", "bad_samples"}
    )
