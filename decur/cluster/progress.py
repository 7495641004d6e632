"""A progress bar on stderr; where that is no terminal, silent at first, then seldom."""

import sys
from typing import Any

from tqdm import tqdm

SELDOM = 30.0
"""Seconds until a log file has a first line, and between two."""


def progress_bar(title: str, total: int | None, **options: Any) -> "tqdm[Any]":
    """A tqdm bar; `options` are tqdm's."""
    quiet: dict[str, Any] = {} if sys.stderr.isatty() else {"mininterval": SELDOM, "delay": SELDOM}
    return tqdm(desc=title, total=total, **quiet, **options)


def byte_bar(title: str, total: int | None) -> "tqdm[Any]":
    """A bar over bytes."""
    return progress_bar(title, total, unit="B", unit_scale=True)
