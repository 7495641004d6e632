"""Linear probes of the known factors of synthetic scenes, on a frozen representation."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from decur.config import dims_common
from decur.config.protocols import PROTOCOLS
from decur.errors import DecurError
from decur.models.two_branch import TwoBranch
from decur.shards import PairedShards
from decur.training.methods import build_model
from decur.training.views import whole_view
from decur.transfer.cell import CellInputs, CellResult
from decur.transfer.task import samples_evaluated

FACTORS = ("common", "unique1", "unique2")


def evaluate(inputs: CellInputs) -> CellResult:
    """Probe the features of one modality's backbone, or one part of its embedding."""
    ((name, preset),) = inputs.presets.items()
    pretrain, shards, dataset = inputs.pretrain, inputs.shards, inputs.dataset
    branch = list(pretrain.modalities).index(name)
    part = PROTOCOLS[inputs.cell.protocol].part
    model = build_model(pretrain, shards)
    model.load_state_dict(inputs.tensors)
    train_rows, test_rows = shards.rows("train"), shards.rows(dataset.evaluation)

    def representation(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        images = whole_view(shards, name, preset, rows, pretrain.crop)
        if part is None:
            return features(model.backbones[branch], images).numpy()
        z = features(_Embedder(model, branch), images)
        return split_dimensions(z, dims_common(pretrain, model.embedding_dim), part).numpy()

    levels = factor_levels(shards, train_rows), factor_levels(shards, test_rows)
    factors = {f: (levels[0][f], levels[1][f]) for f in levels[0]}
    train_features = representation(train_rows)
    metrics = probe_factors(train_features, representation(test_rows), factors)
    return CellResult(
        {
            "metrics": metrics,
            "counts": {"dimensions": train_features.shape[1]},
            "evaluated": samples_evaluated(shards, dataset, len(test_rows)),
        }
    )


def probe_factors(
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    factors: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> dict[str, float]:
    """Compute a logistic regression's test accuracy in percent for each factor.

    `train` and `test` are features `(n, d)`, `factors[name]` their two vectors of levels.
    """
    # Imported here because they take seconds, and other protocols do not need them.
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
    """Read the known factors of the rows.

    Raises:
        DecurError: the dataset has none (they exist for synthetic scenes only).
    """
    if f"factor_{FACTORS[0]}" not in shards.index:
        raise DecurError(f"{shards.root}: has no known factors; probe synthetic scenes")
    return {f: shards.index[f"factor_{f}"].to_numpy(dtype=np.int64)[rows] for f in FACTORS}


@torch.no_grad()
def features(backbone: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Compute the outputs `(N, d)` of a frozen network in evaluation mode."""
    backbone.eval()
    return torch.cat([backbone(x) for x in images.split(batch_size)])


def split_dimensions(z: Tensor, dim_common: int, part: str) -> Tensor:
    """Select the common or the unique dimensions of an embedding, the same number of either.

    Dimensions of one kind are exchangeable, so the first ones are taken.
    """
    count = min(dim_common, z.shape[1] - dim_common)
    if count == 0:
        raise DecurError("an embedding without common or without unique dimensions cannot be split")
    start = 0 if part == "common" else dim_common
    return z[:, start : start + count]


class _Embedder(nn.Module):
    """Backbone and projector of one branch as a single network."""

    def __init__(self, model: TwoBranch, branch: int) -> None:
        super().__init__()
        self.model, self.branch = model, branch

    def forward(self, x: Tensor) -> Tensor:
        return self.model.embed(x, self.branch)
