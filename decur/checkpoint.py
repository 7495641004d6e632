"""Checkpoints that survive a crash: written whole or not at all, the newest readable one wins."""

import re
from pathlib import Path
from typing import Any

import torch

from decur.files import write_atomically

KEEP = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `checkpoint-<step>.pt` and drop all but the last two."""
    path = folder / f"checkpoint-{step:08d}.pt"
    write_atomically(path, lambda temporary: torch.save(state, temporary))
    for old in _checkpoints(folder)[:-KEEP]:
        old.unlink()
    return path


def load_checkpoint(folder: Path, identity: str) -> dict[str, Any] | None:
    """The newest undamaged checkpoint of the same run, or None.

    `identity` names settings and data; a checkpoint of another identity is left over from before a
    change and must not be continued.
    """
    for path in reversed(_checkpoints(folder)):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"{path}: damaged ({type(error).__name__}); trying the one before", flush=True)
            continue
        if state.get("identity") == identity:
            return state
        print(f"{path}: is of other settings or data; not continued", flush=True)
    return None


def _checkpoints(folder: Path) -> list[Path]:
    found = folder.glob("checkpoint-*.pt") if folder.is_dir() else []
    return sorted(p for p in found if re.fullmatch(r"checkpoint-\d{8}\.pt", p.name))
