"""Choose evenly spaced samples of a folder of shards."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from decur.shards.read import PairedShards

Wanted = Literal["none", "all"] | int
"""Number of evenly spaced evaluation samples whose predictions are kept."""


def evenly_spaced(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Choose `count` evenly spaced rows from the first to the last; all if there are fewer."""
    count = min(count, len(rows))
    return rows[np.arange(count) * (len(rows) - 1) // max(count - 1, 1)]


def kept_rows(shards: PairedShards, split: str, wanted: Wanted) -> NDArray[np.int64]:
    """Return the rows, ascending, of a split's labelled samples whose predictions are kept."""
    rows = shards.rows(split, labelled=True)
    if isinstance(wanted, int):
        return evenly_spaced(rows, wanted)
    return rows if wanted == "all" else rows[:0]
