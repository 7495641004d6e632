"""The registry of pretraining methods: the properties of each method, except its loss.

Nothing heavy is imported here: a method names the module of its loss, which is imported on use.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from decur.config.strict import check_known

CONTRASTIVE_DIMS = (512, 128)
"""Hidden and output dimensions of the projector of contrastive methods."""

OFFICIAL_RANKS = 4
"""Number of processes used with the released code; some of its faults depend on it."""


@dataclass(frozen=True)
class Method:
    """A way to pretrain two backbones, or a baseline without pretraining.

    `loss` is the module whose function `method_loss` computes the loss (see `decur.losses`); if it
    is None, the backbones keep their initial weights. `views` is the number of augmented views of
    each modality; `views_without_intra` is that number without intra-modal terms.

    The flags mean:

    * `has_unique`: the embedding is divided into common and unique dimensions;
    * `contrastive`: the projector is small (`CONTRASTIVE_DIMS`), and the settings are ignored;
    * `single`: each modality is trained alone, so the projector is never shared;
    * `imagenet`: the backbones start from ImageNet weights;
    * `released`: the backbones are read from a file that the authors released;
    * `lost_gradient`: in the released code, the gradient is too small by the number of processes.
      Each process sums the cross-correlation over all processes, but only its own part has a
      gradient, and the gradients are then averaged. The step size of LARS is proportional to the
      weights and independent of the size of the gradient. For weights, the effect is therefore that
      weight decay, which is added to the gradient, counts that many times as much. For parameters
      of one dimension, which LARS neither scales nor decays, the step is that many times smaller.
      The other methods use a differentiable gather, so their gradients are correct.

    `log_scale` is the initial value of the learned logarithm of the inverse temperature; None if it
    is not learned.
    """

    loss: str | None = None
    views: int = 1
    views_without_intra: int | None = None
    has_unique: bool = False
    contrastive: bool = False
    single: bool = False
    imagenet: bool = False
    released: bool = False
    lost_gradient: bool = False
    log_scale: float | None = None

    @property
    def trained(self) -> bool:
        """Return whether the method pretrains its backbones."""
        return self.loss is not None


METHODS = {
    "decur": Method(
        "decur.losses.decur", views=2, views_without_intra=1, has_unique=True, lost_gradient=True
    ),
    "barlow-twins": Method("decur.losses.barlow_twins", lost_gradient=True),
    "barlow-twins-single": Method(
        "decur.losses.barlow_twins_single", views=2, single=True, lost_gradient=True
    ),
    "vicreg": Method("decur.losses.vicreg"),
    "simclr": Method("decur.losses.simclr", contrastive=True),
    "clip": Method("decur.losses.clip", contrastive=True, log_scale=math.log(1 / 0.07)),
    "random": Method(),
    "supervised": Method(),
    "imagenet": Method(imagenet=True),
    "released": Method(released=True),
}


def _is_method(name: str) -> str:
    return check_known(name, METHODS, "method")


MethodName = Annotated[
    str,
    AfterValidator(_is_method),
    WithJsonSchema({"enum": list(METHODS), "type": "string"}),
]
