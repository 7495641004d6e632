"""Cache features of frozen backbones, so that each image is encoded once for all heads."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.models.heads import TransferModel
from decur.transfer.data import LabelledData

EncodedBatch = list[list[Tensor]]
"""The encoding of a batch, `encoded[modality]`, see `TransferModel.encode`."""


class FrozenFeatures:
    """The features of one dataset from one run's frozen backbones, by modality and row.

    They are computed on deterministic views, with the backbones in evaluation mode. Label
    fractions, learning rates, choices of modalities and nearest neighbours all use the same
    features.
    """

    def __init__(self) -> None:
        self._features: dict[str, list[Tensor]] = {}
        self._positions: dict[str, NDArray[np.int64]] = {}
        self.size = (0, 0)

    @torch.no_grad()
    def add(self, model: TransferModel, data: LabelledData, rows: NDArray[np.int64]) -> None:
        """Encode the rows that are not cached yet by the model's (frozen) backbones."""
        model.backbones.eval()
        for i, name in enumerate(data.presets):
            at = self._positions.setdefault(name, np.full(len(data.shards), -1))
            new = rows[at[rows] < 0]
            if not len(new):
                continue
            encoded = []
            for _, read in data.read_ahead(new, [name], labels=False):
                (x,) = data.views(read)
                encoded.append(model.encode(i, x))
                self.size = (x.shape[-2], x.shape[-1])
            at[new] = np.arange(len(new)) + at.max() + 1
            known = [self._features[name]] if name in self._features else []
            self._features[name] = [
                torch.cat(parts) for parts in zip(*known, *encoded, strict=True)
            ]

    def read(self, data: LabelledData, rows: NDArray[np.int64]) -> EncodedBatch:
        """Return the features of rows that were added before, for the data's modalities."""
        encoded = []
        for name in data.presets:
            features = self._features[name]
            at = torch.from_numpy(self._positions[name][rows]).to(features[0].device)
            encoded.append([feature[at] for feature in features])
        return encoded
