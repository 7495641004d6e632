"""The step log as a file: one line of JSON per step, the last of which may be torn."""

import json
from pathlib import Path


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the steps of a log, if there is one.

    A line that a killed job or a lost node left torn is passed over.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in map(parsed, lines) if line is not None]


def is_log(path: Path) -> bool:
    """Tell whether a file is a step log: empty, or with a line of a step in it."""
    return path.stat().st_size == 0 or bool(read_log(path))


def parsed(line: str) -> dict[str, float] | None:
    """Return the values of a step, or None if the line is not whole."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict) or not isinstance(values.get("step"), int):
        return None
    return values
