"""Pretraining losses, one module per method.

The loss function of a module takes only embeddings. A module that the registry of methods lists
(`decur.config.methods`) also has

    method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms

which selects the views that the loss needs and passes on the settings. `log_scale` is the learned
log of the inverse temperature, for methods that learn one.
"""

from torch import Tensor

Embeddings = list[list[Tensor]]
"""Projector outputs `z[modality][view]`, (n, K) each, for the rows of this rank."""

Terms = dict[str, Tensor]
"""Scalars by name: `loss`, and the terms that are logged with it."""
