"""The registry of methods: what each one is, as far as anything but its loss has to know.

Nothing heavy is imported here: a loss is named by its module and imported where it is computed.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from decur.config.strict import check_known

CONTRASTIVE_DIMS = (512, 128)
"""Hidden and embedding dimensions of the projector of contrastive methods."""

OFFICIAL_RANKS = 4
"""Processes that the released code was run on, and that some of its faults depend on."""


@dataclass(frozen=True)
class Method:
    """A way to pretrain two backbones, or a baseline that pretrains nothing.

    `loss` is the module whose function `method_loss` computes the loss (see `decur.losses`);
    without one the backbones stay as they are initialised. `views` is the number of augmented views
    of each modality, `views_without_intra` that number where intra-modal terms are switched off.

    The other fields say whether

    * `has_unique`: the embedding is divided into common and unique dimensions;
    * `contrastive`: the projector is a small one (`CONTRASTIVE_DIMS`), whatever the settings say;
    * `single`: each modality is trained alone, so the projector is never shared;
    * `imagenet`: the backbones start from ImageNet weights;
    * `released`: the backbones are those of a file that the authors released;
    * `lost_gradient`: the released code makes the gradient too small by the number of its
      processes. Each process sums the cross-correlation over all of them, but only its own part
      carries a gradient, and the mean over the processes is taken. A step of LARS is as large as
      the weights, whatever the gradient's size. So for weights only the weight decay, which is
      added to the gradient, counts that many times; for parameters of one dimension, which LARS
      neither scales nor decays, the step is that much smaller. The gradients of the other methods
      go through a gather that is differentiated.

    `log_scale` is the initial value of a learned log of the inverse temperature; None: none is
    learned.
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
        """Whether the method pretrains its backbones at all."""
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
