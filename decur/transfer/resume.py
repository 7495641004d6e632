"""Decide which cells of a run must be evaluated, and which results of an earlier job are kept."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from decur.artifacts.ownership import HIDDEN, made
from decur.artifacts.paths import METRICS, Cell
from decur.artifacts.provenance import provenance
from decur.artifacts.records import Metrics
from decur.artifacts.transferred import was_written, withdraw
from decur.config import TransferSettings, deciding
from decur.errors import DecurError
from decur.training.checkpoint import CHECKPOINTS

PACKAGES = ("numpy", "torch", "torchvision", "timm", "scikit-learn")
COMPARED = ("inputs", "decur", "packages")
"""Parts of the provenance that must be equal."""


def checkpoints_of(folder: Path) -> Path:
    """Return the checkpoint folder of a cell, inside the folder of its metrics."""
    return folder / HIDDEN / CHECKPOINTS


def start(
    record: Path,
    cells: Sequence[Cell],
    settings: TransferSettings,
    inputs: Mapping[str, Mapping[str, str]],
) -> list[Cell]:
    """Withdraw the record of a run, delete outdated metrics, and return the cells to evaluate.

    An interrupted job leaves metrics but no record; the next job continues from there. If the
    record exists and all metrics are up to date, the evaluation has finished and is requested again
    (`snakemake --forcerun transfer`): then all cells are evaluated again.

    Args:
        record: the record, beside the folders of the cells.
        cells: all cells of the run.
        settings: the settings of the job.
        inputs: by dataset, the checksums of the inputs of its cells, by name.

    Raises:
        DecurError: the record is not ours.
    """
    folder = record.parent
    wanted = [c for c in cells if not _is_made(folder / str(c), c, settings, inputs[c.dataset])]
    if not wanted and was_written(record):
        wanted = [*cells]
    withdraw(record)
    for cell in wanted:
        (folder / str(cell) / METRICS).unlink(missing_ok=True)
    return wanted


def _is_made(
    folder: Path, cell: Cell, settings: TransferSettings, inputs: Mapping[str, str]
) -> bool:
    """Check whether the folder of a cell contains what evaluating it now would write.

    The commit may differ, because not every change of the code makes results outdated.
    """
    try:
        found = Metrics.read(folder / METRICS)
        before = TransferSettings.model_validate(found.provenance.settings)
    except (OSError, DecurError, ValidationError):
        return False  # missing, damaged, or of another version
    now = provenance(settings, inputs, PACKAGES)
    return (
        (found.run, found.cell) == (settings.run, str(cell))
        and all(getattr(found.provenance, key) == getattr(now, key) for key in COMPARED)
        and deciding_cell(before, cell) == deciding_cell(settings, cell)
        and all(os.path.lexists(folder / name) for name in made(folder))
    )


def deciding_cell(settings: TransferSettings, cell: Cell) -> dict[str, Any]:
    """Select the settings that decide a cell's results: without the recipes of other datasets."""
    recipes = {k: v for k, v in settings.recipes.items() if k == cell.dataset}
    return deciding(settings.model_copy(update={"recipes": recipes}))
