"""The record of all transfer evaluations of a run, `cells.json`, where one job makes them.

It lists the cells with the fingerprints of their metrics. The workflow declares it as the output of
the job, whichever cells a run has.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from decur.artifacts.ownership import made, remove_entry, write_ours
from decur.artifacts.provenance import Origin, fingerprint
from decur.artifacts.records import Transferred
from decur.errors import DecurError


def write_transferred(record: Path, run: str, metrics: Mapping[str, Path], origin: Origin) -> None:
    """Write the record of a run.

    Args:
        record: its file.
        run: the identity of the run.
        metrics: the metrics of each cell, by the cell's identity.
        origin: the provenance of the evaluations.

    Raises:
        DecurError: the file exists and is not ours.
    """
    cells = {cell: fingerprint(path) for cell, path in metrics.items()}
    tree = Transferred(run=run, cells=cells, provenance=origin).dump()
    text = json.dumps(tree, indent=1) + "\n"
    write_ours(record, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def was_written(record: Path) -> bool:
    """Return whether the record has been written, even if Snakemake has deleted it since.

    Snakemake deletes the outputs of a job before it runs. The proof that the record is ours stays.
    """
    return record.name in made(record.parent)


def withdraw(record: Path) -> None:
    """Delete the record, so that `was_written` is false until it is written again.

    Raises:
        DecurError: the file is not ours.
    """
    remove_entry(record)


def check_transferred(record: Path, metrics: Mapping[str, Path]) -> None:
    """Check that the metrics of a run are still there; without a record they may not be made yet.

    Args:
        record: the record of the run.
        metrics: the metrics of the cells that are needed, by the cell's identity.

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
                "snakemake, which evaluates this cell again"
            )
