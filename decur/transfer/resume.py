"""Which cells of a run are still to be evaluated, and which an earlier job has left as they are."""

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
    """The folder of the checkpoints of a cell, in the folder of its metrics."""
    return folder / HIDDEN / CHECKPOINTS


def start(
    record: Path,
    cells: Sequence[Cell],
    settings: TransferSettings,
    inputs: Mapping[str, Mapping[str, str]],
) -> list[Cell]:
    """Withdraw the record of a run, delete outdated metrics, and return the cells to evaluate.

    An interrupted job leaves metrics and no record; the next one goes on from there. Where the
    record was written and all metrics are as they would be made now, the evaluation has finished
    and is asked for again (`snakemake --forcerun transfer`): then all cells are evaluated anew.

    Args:
        record: the record, beside the folders of the cells.
        cells: all cells of the run.
        settings: what the job is asked for.
        inputs: by dataset, the checksums of what its cells are evaluated with, by name.

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
    """Whether the folder of a cell holds what evaluating it now would write.

    The commit may be another one: results do not become outdated by every change of the code.
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
    """The settings that decide the results of a cell: without the recipes of other datasets."""
    recipes = {k: v for k, v in settings.recipes.items() if k == cell.dataset}
    return deciding(settings.model_copy(update={"recipes": recipes}))
