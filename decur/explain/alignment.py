"""Cross-modal alignment of every embedding dimension (paper §7, equation 7, figure 4a)."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.config import AlignmentSettings
from decur.job import Job
from decur.losses.correlation import diagonal, standardise
from decur.methods import build_model, dims_common
from decur.provenance import file_checksum, provenance, write_json
from decur.shards import PairedShards
from decur.transfer.data import whole_view
from decur.weights import read_weights

PACKAGES = ("numpy", "pandas", "torch", "torchvision", "timm")


def alignment_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """`(1 - C_ii)^2` of every dimension of two embeddings `(N, K)`: `(K,)`, 0 is aligned."""
    return (1 - diagonal(standardise(z1), standardise(z2))).square()


@torch.no_grad()
def align(settings: AlignmentSettings, weights: Path, shards_root: Path, out: Path) -> None:
    """Write the alignment of each dimension as CSV: dimension, common or unique, batch, loss.

    Batches are whole views of seeded random samples that the run was not trained on, if there
    are any, else of those it was trained on. Where it came from is in a JSON of the same name.
    """
    job = Job()
    shards = PairedShards(shards_root)
    tensors, metadata = read_weights(weights)
    pretrain = settings.pretrain
    model = build_model(pretrain, shards)
    model.load_state_dict(tensors)
    model.eval()
    common = dims_common(pretrain, model.embedding_dim)
    part = np.where(np.arange(model.embedding_dim) < common, "common", "unique")
    frames = []
    for number, rows in enumerate(_batches(settings, shards)):
        z1, z2 = (
            model.embed(whole_view(shards, name, preset, rows, pretrain.crop), branch)
            for branch, (name, preset) in enumerate(pretrain.modalities.items())
        )
        loss = alignment_loss(z1, z2).numpy()
        frames.append(
            pd.DataFrame(
                {"batch": number, "dimension": range(len(loss)), "part": part, "loss": loss}
            )
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(frames).to_csv(out, index=False, float_format="%.6f")
    inputs = {pretrain.dataset: shards.card["checksum"], weights.name: file_checksum(weights)}
    origin = provenance(settings, inputs, PACKAGES)
    origin["pretrained"] = metadata.get("provenance", {})
    record = {"files": {out.name: file_checksum(out)}, "provenance": origin, "job": job.record()}
    write_json(out.with_suffix(".json"), record)


def _batches(settings: AlignmentSettings, shards: PairedShards) -> list[NDArray[np.int64]]:
    held_out = [s for s in shards.card["counts"] if s not in settings.pretrain.splits]
    splits = held_out or list(settings.pretrain.splits)
    rows = np.concatenate([shards.rows(split) for split in splits])
    order = np.random.default_rng(settings.pretrain.seed).permutation(rows)
    size = min(settings.batch_size, len(order))
    count = min(settings.batches, len(order) // size)
    return [order[i * size : (i + 1) * size] for i in range(count)]
