"""Finished runs: remove their checkpoints, and keep their weights from being trained again.

Snakemake deletes the output of a job that it has not recorded as finished, and sends the job again.
A hard link beside the checkpoints, which takes no space, keeps the weights until then.
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
    """The identity of a run's checkpoints, see `identity_of`."""
    return identity_of(deciding(settings), inputs)


def keep_finished(weights: Path, checkpoints: Path, identity: str) -> None:
    """Link the weights of a finished run into its folder of checkpoints, which are then removed.

    Without hard links on the file system, the last checkpoint is kept instead.
    """
    try:
        link_atomically(weights, _link(checkpoints, identity))
    except OSError:
        remove_checkpoints(checkpoints, identity, keep=1)
    else:
        remove_checkpoints(checkpoints, identity)


def restore_finished(weights: Path, checkpoints: Path, identity: str) -> bool:
    """Put the weights of a finished run in place again; return whether the run was finished.

    Raises:
        DecurError: the file system does not give the kept weights, which may be whole.
    """
    kept = _link(checkpoints, identity)
    if not kept.is_file():
        return False
    if not _is_of(kept, identity):
        print(f"{kept}: is damaged or of another run; not used", flush=True)
        return False
    os.utime(kept)  # to Snakemake the weights must be newer than what they were made from
    try:
        link_atomically(kept, weights)
    except OSError:  # the folder was copied to a file system without hard links
        write_atomically(weights, lambda temporary: shutil.copyfile(kept, temporary))
    remove_checkpoints(checkpoints, identity)  # whoever finished may have been killed before
    print(f"{weights}: the run is finished; restored from {kept}", flush=True)
    return True


def _link(checkpoints: Path, identity: str) -> Path:
    return checkpoints / f"finished-{short_name(identity)}.safetensors"


def _is_of(path: Path, identity: str) -> bool:
    """Tell whether a file holds weights of a run of this identity, by its own record."""
    try:
        origin = Weights.read(path).provenance
        settings = PretrainSettings.model_validate(origin.settings)
    except (DecurError, ValidationError):
        check_readable(path)
        return False
    return run_identity(settings, origin.inputs) == identity
