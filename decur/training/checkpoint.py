"""Write checkpoints atomically, and find the newest readable checkpoint of a job.

A folder holds the checkpoints of one identity: the data of one job and the settings that decide its
results. Checkpoints of other identities, for example from before a change of settings, are moved to
a subfolder named after their identity.
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
"""Errors that torch raises when a file is not a complete checkpoint."""


class DamagedError(Exception):
    """A file is not a complete checkpoint."""


def identity_of(decided: object, inputs: Mapping[str, str]) -> str:
    """Compute a digest of everything that decides a job's results: settings and input checksums.

    Checkpoints of the same identity are continued, even if the jobs that wrote them ran
    differently. `decided` is a tree that JSON can represent.
    """
    text = json.dumps([decided, sorted(inputs.values())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `checkpoint-<step>.pt`; keep only the last two of its identity up to this step."""
    path = folder / f"checkpoint-{step:08d}.pt"
    write_atomically(path, lambda temporary: torch.save(state, temporary))
    earlier = [other for other in _checkpoints(folder) if other.name < path.name]
    own = [other for other in earlier if _is_of(other, state["identity"])]
    for old in own[: 1 - KEEP]:
        old.unlink()
    return path


def load_checkpoint(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the newest undamaged checkpoint of the same run, or None.

    `identity` stands for the data and the settings that decide results. Checkpoints of another
    identity must not be continued. They are moved to a subfolder, as are damaged ones, so that new
    checkpoints do not collide with them. Only one process may call this on a folder at a time.

    Raises:
        DecurError: a checkpoint cannot be read, although it may be complete.
    """
    for path in _checkpoints(folder):
        try:
            own = _identity(path)
        except DamagedError as error:
            _set_aside(path, DAMAGED, f"is damaged ({error})")
        else:
            if own != identity:
                _set_aside(path, short_name(own), "belongs to other settings or data")
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
    """Remove the checkpoints of one identity except the newest `keep`; others stay."""
    own = [path for path in _checkpoints(folder) if _is_of(path, identity)]
    aside = folder / short_name(identity)
    for path in [*_checkpoints(aside), *own[: len(own) - keep]]:
        path.unlink()
    with suppress(OSError):  # it does not exist, or is not empty
        aside.rmdir()


def short_name(identity: str) -> str:
    """Shorten an identity to a folder name of letters and digits."""
    return re.sub(r"[^0-9A-Za-z]", "", identity)[:16] or "unnamed"


def _load(path: Path) -> dict[str, Any]:
    # Pass a file object: its read errors are OSError. Given a path, torch reports them as damage.
    with path.open("rb") as file:
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            state["identity"]
        except DAMAGE as error:
            raise DamagedError(type(error).__name__) from error
    return state


def _identity(path: Path) -> str:
    """Read the identity of a checkpoint without its tensors.

    Raises:
        DamagedError: it is not complete.
        DecurError: it cannot be read, although it may be complete.
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
    print(f"{path}: {reason}; not continued, moved to {target}", flush=True)


def _checkpoints(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = read_patiently(folder, lambda folder: list(folder.glob("checkpoint-*.pt")))
    return sorted(p for p in found if re.fullmatch(r"checkpoint-\d{8}\.pt", p.name))
