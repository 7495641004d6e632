"""Write checkpoints atomically, and find the newest readable one of a job.

A folder holds the checkpoints of one identity, that is of one job's data and of the settings that
decide its results. Those of others, left from before a change, are set aside in a subfolder named
by theirs.
"""

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from decur.artifacts.files import read_patiently, write_atomically

CHECKPOINTS = "checkpoints"
"""Folder of a job's checkpoints."""

KEEP = 2
DAMAGED = "damaged"

DAMAGE = (EOFError, KeyError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)
"""Errors that torch raises at a file that is no whole checkpoint."""


class DamagedError(Exception):
    """A file is no whole checkpoint."""


def identity_of(decided: object, inputs: Mapping[str, str]) -> str:
    """A digest of what decides a job's results: settings, and the checksums of its inputs.

    Checkpoints of the same identity are continued, however the jobs were run that wrote them.
    `decided` is a tree that JSON can hold.
    """
    text = json.dumps([decided, sorted(inputs.values())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `checkpoint-<step>.pt` and drop all but the last two of the same identity up to it."""
    path = folder / f"checkpoint-{step:08d}.pt"
    write_atomically(path, lambda temporary: torch.save(state, temporary))
    earlier = [other for other in _checkpoints(folder) if other.name < path.name]
    own = [other for other in earlier if _is_of(other, state["identity"])]
    for old in own[: 1 - KEEP]:
        old.unlink()
    return path


def load_checkpoint(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint of the same run, or None.

    `identity` names data and settings that decide results. Checkpoints of another identity must not
    be continued; they are set aside, as are damaged ones, so that those to come do not meet them.
    Only one process may call this on a folder at a time.

    Raises:
        DecurError: the file system does not give a checkpoint, which may be whole.
    """
    for path in _checkpoints(folder):
        try:
            own = _identity(path)
        except DamagedError as error:
            _set_aside(path, DAMAGED, f"is damaged ({error})")
        else:
            if own != identity:
                _set_aside(path, short_name(own), "is of other settings or data")
    for path in _checkpoints(
        folder / short_name(identity)
    ):  # settings were changed, and changed back
        if not (folder / path.name).exists():
            path.replace(folder / path.name)
    for path in reversed(_checkpoints(folder)):
        try:
            return read_patiently(path, _load)
        except DamagedError as error:
            _set_aside(path, DAMAGED, f"is damaged ({error})")
    return None


def remove_checkpoints(folder: Path, identity: str, keep: int = 0) -> None:
    """Remove the checkpoints of one identity but for the newest `keep`; those of others stay."""
    own = [path for path in _checkpoints(folder) if _is_of(path, identity)]
    aside = folder / short_name(identity)
    for path in [*_checkpoints(aside), *own[: len(own) - keep]]:
        path.unlink()
    with suppress(OSError):  # there is none, or something else is left in it
        aside.rmdir()


def short_name(identity: str) -> str:
    """A folder's name for an identity, which is a digest; of any other text its harmless part."""
    return re.sub(r"[^0-9A-Za-z]", "", identity)[:16] or "unnamed"


def _load(path: Path) -> dict[str, Any]:
    # A file object, whose read errors are OSError; given a path, torch takes them for damage.
    with path.open("rb") as file:
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            state["identity"]
        except DAMAGE as error:
            raise DamagedError(type(error).__name__) from error
    return state


def _identity(path: Path) -> str:
    """The identity in a checkpoint, of which no tensor is read.

    Raises:
        DamagedError: it is not whole.
        DecurError: the file system does not give it.
    """
    with torch.serialization.skip_data():
        return str(read_patiently(path, _load)["identity"])


def _is_of(path: Path, identity: str) -> bool:
    try:
        return _identity(path) == identity
    except DamagedError:
        return False


def _set_aside(path: Path, name: str, reason: str) -> None:
    target = path.parent / name / path.name
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    print(f"{path}: {reason}; not continued, and moved to {target}", flush=True)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = read_patiently(folder, lambda folder: list(folder.glob("checkpoint-*.pt")))
    return sorted(p for p in found if re.fullmatch(r"checkpoint-\d{8}\.pt", p.name))
