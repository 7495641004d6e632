"""Save and restore the state of a training between two steps."""

from typing import Literal

import torch
from torch import Generator, Tensor

from decur.models.heads import TransferModel
from decur.training.resume import Journal, State

Frozen = Literal["eval", "official"]
"""How backbones are frozen while the head trains, see `Transfer.frozen_mode`."""


class TrainingState:
    """The number of steps done and the inputs of the next step: weights, optimiser, randomness.

    `generator` draws the augmentation, starting from `seed`; it is None without a seed.
    """

    def __init__(
        self,
        model: TransferModel,
        optimizer: torch.optim.Optimizer,
        frozen: Frozen | None,
        seed: int | None,
    ) -> None:
        self._model, self._optimizer, self._frozen = model, optimizer, frozen
        self.done = 0
        self.generator = None if seed is None else Generator().manual_seed(seed)
        self._drawn = None if self.generator is None else self.generator.get_state()

    def follow(self, drawn: Tensor | None) -> None:
        """Count a step; `drawn` was the state of the generator, which draws ahead, at that step."""
        self.done, self._drawn = self.done + 1, drawn

    def go_on(self, journal: Journal) -> None:
        """Continue this training where an earlier job left it, if it did; the journal saves it."""
        found = journal.begin(self._state)
        if found is None:
            return
        self.done, self._drawn = found["done"], found["drawn"]
        if self.generator is not None and self._drawn is not None:
            self.generator.set_state(self._drawn)
        with torch.no_grad():
            for name, tensor in self._trained().items():
                tensor.copy_(found["model"][name])
        self._optimizer.load_state_dict(found["optimizer"])
        torch.set_rng_state(found["random"]["cpu"])
        if "cuda" in found["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(found["random"]["cuda"])

    def _state(self) -> State:
        random = {"cpu": torch.get_rng_state()}
        if next(self._model.parameters()).is_cuda:
            random["cuda"] = torch.cuda.get_rng_state()
        return {
            "done": self.done,
            "drawn": self._drawn,
            "model": self._trained(),
            "optimizer": self._optimizer.state_dict(),
            "random": random,  # used by dropout
        }

    def _trained(self) -> dict[str, Tensor]:
        """Select the weights and statistics that training changes, by name."""
        tensors = self._model.state_dict()
        if self._frozen != "eval":
            return tensors
        return {name: x for name, x in tensors.items() if not name.startswith("backbones.")}
