"""Read step logs: files with one line of JSON per training step; the last may be incomplete."""

import json
from pathlib import Path


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the steps of a log; return an empty list if there is no file.

    Incomplete lines, from a killed job or a failed node, are skipped.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in map(parsed, lines) if line is not None]


def is_log(path: Path) -> bool:
    """Return whether a file is a step log: it is empty, or contains at least one valid step."""
    return path.stat().st_size == 0 or bool(read_log(path))


def parsed(line: str) -> dict[str, float] | None:
    """Return the values of a step, or None if the line is incomplete."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        return None
    return values
