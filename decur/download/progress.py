"""A progress bar over bytes: how far, how fast, how long still."""

import sys
from typing import Any

from tqdm import tqdm


def byte_bar(title: str, total: int | None) -> "tqdm[Any]":
    """The bar, on stderr; in a log file it writes one line in half a minute."""
    seconds = 1 if sys.stderr.isatty() else 30
    return tqdm(desc=title, total=total, unit="B", unit_scale=True, mininterval=seconds)
