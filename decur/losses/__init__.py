"""Pretraining losses, one module per method.

A module's own loss is a function of embeddings alone. A module that the registry of methods names
(`decur.config.methods`) also has

    method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms

which picks the views that the loss needs and passes on what the settings say. `log_scale` is the
learned log of the inverse temperature, of methods that learn one.
"""

from torch import Tensor

Embeddings = list[list[Tensor]]
"""Projector outputs `z[modality][view]`, (n, K) each, of this rank's rows."""

Terms = dict[str, Tensor]
"""Scalars by name: `loss`, and what is logged beside it."""
