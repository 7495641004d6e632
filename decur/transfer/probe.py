"""Linear probes of what a frozen representation holds: the known factors of synthetic scenes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.errors import DecurError
from decur.shards import PairedShards

FACTORS = ("common", "unique1", "unique2")


def probe_factors(
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    factors: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> dict[str, float]:
    """Test accuracy in percent of a logistic regression for each factor.

    `train` and `test` are features `(n, d)`, `factors[name]` their two vectors of levels.
    """
    # Here, since they take seconds to import and other protocols have no need of them.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    accuracy = {}
    for name, (train_levels, test_levels) in factors.items():
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(train, train_levels)
        accuracy[name] = 100 * float(probe.score(test, test_levels))
    return accuracy


def factor_levels(shards: PairedShards, rows: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """The known factors of the rows.

    Raises:
        DecurError: the dataset has none (they exist for synthetic scenes only).
    """
    if f"factor_{FACTORS[0]}" not in shards.index:
        raise DecurError(f"{shards.root}: has no known factors; only scenes can be probed")
    return {f: shards.index[f"factor_{f}"].to_numpy(dtype=np.int64)[rows] for f in FACTORS}


@torch.no_grad()
def features(backbone: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Outputs of a frozen network in evaluation mode, `(N, d)`."""
    backbone.eval()
    return torch.cat([backbone(x) for x in images.split(batch_size)])


def split_dimensions(z: Tensor, dim_common: int, part: str) -> Tensor:
    """The common or the unique dimensions of an embedding, equally many of either.

    Dimensions of one kind are exchangeable, so the first ones are taken.
    """
    count = min(dim_common, z.shape[1] - dim_common)
    if count == 0:
        raise DecurError("an embedding without common or without unique dimensions has no halves")
    start = 0 if part == "common" else dim_common
    return z[:, start : start + count]
