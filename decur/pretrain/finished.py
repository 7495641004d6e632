"""Finished runs: remove their checkpoints, and avoid training their weights again.

Snakemake deletes the output of a job that it has not recorded as finished, and submits the job
again. A hard link beside the checkpoints keeps the weights until then; it takes no space.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from decur.artifacts.files import check_readable, link_atomically, write_atomically
from decur.artifacts.records import Weights
from decur.config import PretrainSettings, deciding
from decur.errors import DecurError
from decur.training.checkpoint import identity_of, remove_checkpoints, short_name


def run_identity(settings: PretrainSettings, inputs: Mapping[str, str]) -> str:
    """Compute the identity of a run's checkpoints, see `identity_of`."""
    return identity_of(deciding(settings), inputs)


def keep_finished(weights: Path, checkpoints: Path, identity: str) -> None:
    """Link the weights of a finished run into its checkpoint folder, and remove its checkpoints.

    If the file system has no hard links, the last checkpoint is kept instead.
    """
    try:
        link_atomically(weights, _link(checkpoints, identity))
    except OSError:
        remove_checkpoints(checkpoints, identity, keep=1)
    else:
        remove_checkpoints(checkpoints, identity)


def restore_finished(weights: Path, checkpoints: Path, identity: str) -> bool:
    """Restore the weights of a finished run; return whether the run was finished.

    Raises:
        DecurError: the kept weights cannot be read, although they may be complete.
    """
    kept = _link(checkpoints, identity)
    if not kept.is_file():
        return False
    if not _is_of(kept, identity):
        print(f"{kept}: damaged, or from another run; not used", flush=True)
        return False
    os.utime(kept)  # Snakemake needs weights that are newer than their inputs
    try:
        link_atomically(kept, weights)
    except OSError:  # the folder was copied to a file system without hard links
        write_atomically(weights, lambda temporary: shutil.copyfile(kept, temporary))
    remove_checkpoints(checkpoints, identity)  # the finished job may have been killed before this
    print(f"{weights}: the run is finished; restored from {kept}", flush=True)
    return True


def _link(checkpoints: Path, identity: str) -> Path:
    return checkpoints / f"finished-{short_name(identity)}.safetensors"


def _is_of(path: Path, identity: str) -> bool:
    """Check by a weights file's own record whether its run has this identity."""
    try:
        origin = Weights.read(path).provenance
        settings = PretrainSettings.model_validate(origin.settings)
    except (DecurError, ValidationError):
        check_readable(path)
        return False
    return run_identity(settings, origin.inputs) == identity
