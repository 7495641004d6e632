"""Show progress bars on stderr, with few updates if stderr is not a terminal."""

import sys
from typing import Any

from tqdm import tqdm

SELDOM = 30.0
"""Seconds before the first line in a log file, and between two lines."""


def progress_bar(title: str, total: int | None, **options: Any) -> "tqdm[Any]":
    """Return a tqdm bar; `options` are those of tqdm."""
    quiet: dict[str, Any] = {} if sys.stderr.isatty() else {"mininterval": SELDOM, "delay": SELDOM}
    return tqdm(desc=title, total=total, **quiet, **options)


def byte_bar(title: str, total: int | None) -> "tqdm[Any]":
    """Return a progress bar that counts bytes."""
    return progress_bar(title, total, unit="B", unit_scale=True)
