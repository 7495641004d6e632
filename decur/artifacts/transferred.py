"""Read and write `cells.json`, the record of all transfer evaluations of a run by one job.

The record lists the cells and the fingerprints of their metrics. The workflow declares it as the
output of the job, because the cells differ between runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from decur.artifacts.ownership import made, remove_entry, write_ours
from decur.artifacts.provenance import Origin, fingerprint
from decur.artifacts.records import Transferred
from decur.errors import DecurError


def write_transferred(record: Path, run: str, metrics: Mapping[str, Path], origin: Origin) -> None:
    """Write the record of the transfer evaluations of a run.

    Args:
        record: the file to write.
        run: the identity of the run.
        metrics: the metrics file of each cell, by the identity of the cell.
        origin: the provenance of the evaluations.

    Raises:
        DecurError: the file exists and was not written by decur.
    """
    cells = {cell: fingerprint(path) for cell, path in metrics.items()}
    tree = Transferred(run=run, cells=cells, provenance=origin).dump()
    text = json.dumps(tree, indent=1) + "\n"
    write_ours(record, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def was_written(record: Path) -> bool:
    """Return whether the record was ever written, even if Snakemake has since deleted it.

    Snakemake deletes the outputs of a job before the job runs. The ownership proof is kept.
    """
    return record.name in made(record.parent)


def withdraw(record: Path) -> None:
    """Delete the record, so that `was_written` is false until it is written again.

    Raises:
        DecurError: the file was not written by decur.
    """
    remove_entry(record)


def check_transferred(record: Path, metrics: Mapping[str, Path]) -> None:
    """Check that the metrics that the record lists still exist; do nothing without a record.

    Args:
        record: the record of the run.
        metrics: the metrics files of the required cells, by the identity of the cell.

    Raises:
        DecurError: the record lists one of the cells, and its metrics are missing.
    """
    if not record.is_file():
        return
    listed = Transferred.read(record).cells
    for cell, path in metrics.items():
        if cell in listed and not path.is_file():
            raise DecurError(
                f"{path}: is missing, although {record} lists it; delete {record} and run "
                "snakemake to evaluate this cell again"
            )
