"""Jobs that are stopped or killed, and what they leave."""

import itertools
import json
import os
import pkgutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


class KilledError(BaseException):
    """Ends a job where it is, as a lost machine would: nobody saves."""


def kill() -> None:
    raise KilledError


def warn() -> None:
    """As SLURM does before the time limit."""
    os.kill(os.getpid(), signal.SIGUSR1)


def at_call(
    patch: pytest.MonkeyPatch, places: Sequence[str], number: int, end: Callable[[], object]
) -> list[str]:
    """Call `end` when the functions at `places` are called for the `number`-th time in all.

    Returns the places in the order of the calls, a list that grows.
    """
    calls: list[str] = []
    for place in places:
        function = pkgutil.resolve_name(place)

        def called(
            *args: Any, place: str = place, function: Callable[..., Any] = function, **options: Any
        ) -> Any:
            calls.append(place)
            if len(calls) == number:
                end()
            return function(*args, **options)

        patch.setattr(place, called)
    return calls


def count_looks(patch: pytest.MonkeyPatch, seconds: float = 1) -> None:
    """Let the clock of checkpoints go on by so much each time that it is looked at."""
    clock = SimpleNamespace(monotonic=itertools.count(step=seconds).__next__)
    patch.setattr("decur.training.resume.time", clock)


def result(folder: Path) -> dict[str, Any]:
    """All that a transfer wrote, but when and where."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".decur" not in path.parts and path.name != "metrics.json"
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    return found | {k: v for k, v in metrics.items() if k not in ("provenance", "job")}
