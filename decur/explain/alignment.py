"""Measure how well each embedding dimension is aligned across modalities.

Paper §7, equation 7, figures 4a and 8.
"""

import pandas as pd
from torch import Tensor

from decur.config.explainers import Alignment
from decur.explain.run import Explanation
from decur.explain.subject import Subject
from decur.losses.correlation import diagonal, standardise

PACKAGES = ()


def alignment_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Compute `(1 - C_ii)^2` per dimension of two embeddings `(N, K)`: `(K,)`; 0 is aligned."""
    return (1 - diagonal(standardise(z1), standardise(z2))).square()


def explain(subject: Subject, recipe: Alignment) -> Explanation:
    """Write one line per batch and dimension: batch, dimension, part, loss."""
    part = subject.part_names()
    losses = subject.each(
        subject.batches(recipe.batch_size, recipe.batches),
        lambda rows, views: alignment_loss(*subject.embed(views)),
    )
    frames = [
        pd.DataFrame(
            {"batch": number, "dimension": range(len(loss)), "part": part, "loss": loss.numpy()}
        )
        for number, loss in enumerate(losses)
    ]
    return Explanation(pd.concat(frames))
