"""Evaluate all cells of one pretrained run in one process: weights in, metrics.json out."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import torch

from decur.artifacts.ownership import check_ours, names_origin
from decur.artifacts.paths import METRICS, TRANSFERRED, Cell
from decur.artifacts.predictions import PREDICTIONS
from decur.artifacts.provenance import Origin, fingerprint, provenance
from decur.artifacts.records import Metrics, Weights
from decur.artifacts.timing import JobTimer
from decur.artifacts.transferred import write_transferred
from decur.config import TransferSettings
from decur.errors import DecurError
from decur.shards import PairedShards
from decur.training.checkpoint import identity_of
from decur.training.resume import INTERVAL, discard, resumable
from decur.transfer.cell import LABELS, CellInputs, chosen_modalities, evaluate_cell
from decur.transfer.features import FrozenFeatures
from decur.transfer.resume import PACKAGES, checkpoints_of, deciding_cell, start
from decur.weights import in_bands_of, read_weights
from decur.weights.files import recorded_arch


def transfer(
    settings: TransferSettings,
    cells: Sequence[Cell],
    weights: Path,
    shards: Path,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
) -> None:
    """Evaluate the backbones of `weights` in every cell, on the datasets below `shards`.

    Writes `out/<cell>/metrics.json`: metrics in percent, and their provenance. If labels were used,
    `labels.txt` beside it lists the ids of the training samples whose labels were used.
    `predictions/` is written if the recipe asks for it.

    With `resume`, `cells` are all cells of the run. Results of an interrupted evaluation are kept
    (see `decur.transfer.resume.start`), and `out/cells.json` finally lists all of them. With or
    without it, the cell that an earlier job was working on continues from its last checkpoint,
    which is in a hidden folder until the metrics are written.

    Raises:
        StoppedError: the job was asked to stop, and has saved.
        DecurError: weights, shards and settings do not fit, or something to be written exists and
            is not ours.
    """
    for cell in cells:
        check_ours(out / str(cell) / METRICS, names_origin)
        check_ours(out / str(cell) / LABELS)
        check_ours(out / str(cell) / PREDICTIONS)
    tensors, record = read_weights(weights)
    _check_archs(weights, record, settings)
    stored = {name: PairedShards(shards / name) for name in sorted({c.dataset for c in cells})}
    checksum = {weights.name: fingerprint(weights)}
    inputs = {name: {name: part.card.checksum, **checksum} for name, part in stored.items()}
    together = out / TRANSFERRED
    wanted = start(together, cells, settings, inputs) if resume else cells
    for cell in {*cells}.difference(wanted):
        discard(checkpoints_of(out / str(cell)))
    for dataset, group in groupby(sorted(wanted), key=lambda cell: cell.dataset):
        cells_of = list(group)
        names = {name for cell in cells_of for name in chosen_modalities(settings, cell)}
        data = in_bands_of(weights, record, stored[dataset], sorted(names))
        frozen = FrozenFeatures()
        for cell in cells_of:
            given = CellInputs(settings, cell, tensors, data, torch.device(device), frozen)
            origin = provenance(settings, inputs[dataset], PACKAGES, record.provenance)
            metrics = _evaluate(given, origin, out / str(cell))
            scores = {name: round(score, 1) for name, score in metrics.items()}
            print(f"{settings.run} {cell}: {scores}", flush=True)
    if resume:
        every = {name: found for part in inputs.values() for name, found in part.items()}
        paths = {str(cell): out / str(cell) / METRICS for cell in sorted(cells)}
        write_transferred(together, settings.run, paths, provenance(settings, every, PACKAGES))


def _evaluate(given: CellInputs, origin: Origin, folder: Path) -> dict[str, float]:
    """Evaluate a cell, or continue it, and write its results; return its metrics."""
    settings, cell, job = given.settings, given.cell, JobTimer(given.device.type)
    identity = identity_of([str(cell), deciding_cell(settings, cell)], origin.inputs)
    checkpoints = checkpoints_of(folder)
    with resumable(checkpoints, identity, job, _interval(settings, cell)) as journal:
        journal.look()
        result = evaluate_cell(replace(given, journal=journal))
        result.write(folder)
        Metrics(
            run=settings.run,
            cell=str(cell),
            **result.record,
            provenance=origin,
            job=job.record(),
        ).write(folder / METRICS)
    metrics: dict[str, float] = result.record["metrics"]
    return metrics


def _interval(settings: TransferSettings, cell: Cell) -> float:
    """Return the seconds between two checkpoints of a cell; a probe needs no recipe."""
    recipe = settings.recipes.get(cell.dataset)
    return INTERVAL if recipe is None else recipe.checkpoint_seconds


def _check_archs(weights: Path, record: Weights, settings: TransferSettings) -> None:
    """Reject weights of another architecture, which might differ only in its features and load."""
    for name in settings.pretrain.modalities:
        arch, found = settings.pretrain.arch_of(name), recorded_arch(record, name)
        if found not in (None, arch):
            raise DecurError(
                f"{weights}: its {name} backbone is {found}, the settings have {arch}; correct "
                f"`arch` of scenarios.{settings.pretrain.scenario}.pretrain"
            )
