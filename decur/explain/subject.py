"""Load a pretrained model, and whole images that it was not trained on, for the explainers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.artifacts.provenance import Origin
from decur.config import ExplainSettings, PretrainSettings, dims_common
from decur.config.methods import METHODS
from decur.errors import DecurError
from decur.models.two_branch import TwoBranch
from decur.shards import PairedShards
from decur.shards.select import evenly_spaced
from decur.training.methods import build_model
from decur.training.prefetch import ahead
from decur.training.resume import Journal
from decur.training.views import whole_view
from decur.weights import in_bands_of, read_weights

R = TypeVar("R")

IDENTITY = (
    "scenario",
    "method",
    "seed",
    "dataset",
    "arch",
    "archs",
    "dim",
    "dim_common",
    "modalities",
)
"""Settings that must be the same in the explained run and in the record of its weights."""


@dataclass(frozen=True)
class Subject:
    """A model in evaluation mode, and the shards of its pretraining dataset.

    `parts` maps names to embedding dimensions: `common` and `unique` for DeCUR, as far as it has
    both, and `all` for methods without this split. `journal` keeps the results of batches.
    """

    model: TwoBranch
    shards: PairedShards
    pretrain: PretrainSettings
    parts: Mapping[str, slice]
    device: torch.device
    journal: Journal | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the splits that the run was not trained on, or else of its training splits."""
        held_out = [s for s in self.shards.card.counts if s not in self.pretrain.splits]
        splits = held_out or self.pretrain.splits
        return np.concatenate([self.shards.rows(split) for split in splits])

    def samples(self, count: int | Literal["all"]) -> NDArray[np.int64]:
        """Select `count` evenly spaced rows, since adjacent rows may be adjacent on the ground."""
        return self.rows if count == "all" else evenly_spaced(self.rows, count)

    def batches(self, size: int, count: int) -> list[NDArray[np.int64]]:
        """Draw at most `count` batches of random rows without repetition.

        If there are fewer rows than `size`, the result is one smaller batch.

        Raises:
            DecurError: there are fewer than two samples, which allow no correlation.
        """
        order = np.random.default_rng(self.pretrain.seed).permutation(self.rows)
        if len(order) < 2:
            raise DecurError(f"{self.shards.root}: fewer than two samples; add samples")
        size = min(size, len(order))
        return [order[i * size : (i + 1) * size] for i in range(min(count, len(order) // size))]

    def views(self, rows: NDArray[np.int64], pixels: int | None = None) -> list[Tensor]:
        """Read whole images per modality, prepared as in pretraining: `(n, C, pixels, pixels)`."""
        return [x.to(self.device) for x in self._read(rows, pixels)]

    def _read(self, rows: NDArray[np.int64], pixels: int | None) -> list[Tensor]:
        size = pixels or self.pretrain.crop
        return [
            whole_view(self.shards, name, preset, rows, size)
            for name, preset in self.pretrain.modalities.items()
        ]

    def each(
        self,
        batches: Sequence[NDArray[np.int64]],
        explain: Callable[[NDArray[np.int64], list[Tensor]], R],
        pixels: int | None = None,
    ) -> list[R]:
        """Apply `explain` to each batch of rows and its `views`, which are prefetched.

        Results are saved from time to time, and those of an earlier job are reused. They must
        consist of numbers, text, tensors, lists and dictionaries.

        Raises:
            StoppedError: the job was asked to stop.
        """
        journal = self.journal or Journal()
        results: list[R] = journal.done.setdefault("batches", [])
        rest = batches[len(results) :]
        for rows, views in ahead(lambda rows: self._read(rows, pixels), rest):
            journal.look()
            journal.finish("batches", explain(rows, [x.to(self.device) for x in views]))
        return results

    def embeddings(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Compute the embeddings of rows, `(n, K)` per modality, on the CPU."""
        return self.embed(self.views(rows))

    @torch.no_grad()
    def embed(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the embeddings of one view per modality: `(n, K)` each, on the CPU."""
        z1, z2 = (self.model.embed(view, branch).cpu() for branch, view in enumerate(views))
        return z1, z2

    def part_names(self) -> NDArray[np.str_]:
        """List the name of the part of each dimension: `(K,)`."""
        names = np.empty(self.model.embedding_dim, dtype="<U6")
        for part, dimensions in self.parts.items():
            names[dimensions] = part
        return names


def load_subject(
    settings: ExplainSettings[Any], weights: Path, shards: Path, device: str = "cpu"
) -> tuple[Subject, Origin]:
    """Load the model of a weights file, its data, and the provenance of the weights.

    Raises:
        DecurError: the weights are missing or damaged, or belong to another run than the settings.
    """
    tensors, record = read_weights(weights)
    pretrain = settings.pretrain
    _check_run(weights, record.provenance, pretrain)
    data = in_bands_of(weights, record, PairedShards(shards), pretrain.modalities)
    model = build_model(pretrain, data)
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise DecurError(
            f"{weights}: does not fit {pretrain.arch} with {pretrain.dim} dimensions on "
            f"{data.root}; use the settings and the weights of the same run"
        ) from None
    parts = embedding_parts(pretrain, model.embedding_dim)
    where = torch.device(device)
    return Subject(model.eval().to(where), data, pretrain, parts, where), record.provenance


def embedding_parts(pretrain: PretrainSettings, dims: int) -> dict[str, slice]:
    """List the dimensions of each part of an embedding; see `Subject`."""
    if not METHODS[pretrain.method].has_unique:
        return {"all": slice(0, dims)}
    common = dims_common(pretrain, dims)
    parts = {"common": slice(0, common), "unique": slice(common, dims)}
    return {part: found for part, found in parts.items() if found.start < found.stop}


def _check_run(weights: Path, origin: Origin, pretrain: PretrainSettings) -> None:
    recorded = origin.settings
    for key, value in pretrain.model_dump(mode="json", include=set(IDENTITY)).items():
        if recorded.get(key) not in (None, value):  # null: unknown for imported weights
            raise DecurError(
                f"{weights}: was pretrained with {key} {recorded[key]}, but the settings have "
                f"{value}; use the weights of the run that is to be explained"
            )
