"""Map embedding dimensions with t-SNE, one point per dimension and batch (figures 1 and 9)."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.config.explainers import Tsne
from decur.explain.run import Explanation
from decur.explain.subject import Subject
from decur.losses.correlation import standardise

PACKAGES = ("scikit-learn",)


def map_dimensions(
    z1: NDArray[np.float32],
    z2: NDArray[np.float32],
    *,
    perplexity: float,
    iterations: int,
    seed: int,
) -> NDArray[np.float32]:
    """Map the dimensions of two embeddings `(N, K)` to the plane: `(2 K, 2)`, `z1` first.

    Each dimension has unit length over the batch, as in the released code. The points start from
    their first two principal components, so equal dimensions start together and stay together. The
    perplexity is at most a third of (number of points - 1).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    points = np.concatenate([z1, z2], axis=1).T
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    tsne = TSNE(
        perplexity=min(perplexity, (len(points) - 1) / 3),
        max_iter=iterations,
        init="pca",
        random_state=seed,
    )
    with threadpool_limits(1):  # sums depend on the number of threads
        mapped: NDArray[np.float32] = tsne.fit_transform(points)
    return mapped


def explain(subject: Subject, recipe: Tsne) -> Explanation:
    """Write one line per point: batch, modality, dimension, part, x, y.

    Embeddings are batch-normalised first, as in the listing of appendix D. The distance of two
    dimensions then decreases with their correlation.
    """
    modalities, dims = list(subject.pretrain.modalities), subject.model.embedding_dim

    def mapped(rows: NDArray[np.int64], views: list[Tensor]) -> Tensor:
        z1, z2 = (standardise(z).numpy() for z in subject.embed(views))
        points = map_dimensions(
            z1,
            z2,
            perplexity=recipe.perplexity,
            iterations=recipe.iterations,
            seed=subject.pretrain.seed,
        )
        return torch.from_numpy(points)

    maps = subject.each(subject.batches(recipe.batch_size, recipe.batches), mapped)
    frames = [
        pd.DataFrame(
            {
                "batch": number,
                "modality": np.repeat(modalities, dims),
                "dimension": np.tile(np.arange(dims), 2),
                "part": np.tile(subject.part_names(), 2),
                "x": points[:, 0].numpy(),
                "y": points[:, 1].numpy(),
            }
        )
        for number, points in enumerate(maps)
    ]
    return Explanation(pd.concat(frames))
