"""Barlow Twins on two views of each modality separately: the paper's single-modal baseline."""

from torch import Tensor

from decur.config import PretrainSettings
from decur.losses import Embeddings, Terms
from decur.losses.barlow_twins import barlow_twins_loss


def method_loss(z: Embeddings, settings: PretrainSettings, log_scale: Tensor | None) -> Terms:
    """Sum `barlow_twins_loss` over both modalities.

    The modalities share no parameters, so the sum trains both as if each had its own run.
    """
    terms = [barlow_twins_loss(*views, lambd=settings.lambd)["loss"] for views in z]
    return {"loss": terms[0] + terms[1], "intra1": terms[0], "intra2": terms[1]}
