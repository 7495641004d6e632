"""Show with Grad-CAM which image regions raise common and unique dimensions (figures 4b and 10)."""

from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from decur.config.explainers import GradCam
from decur.errors import DecurError
from decur.explain.run import Explanation
from decur.explain.subject import Subject
from decur.explain.targets import PartMeans
from decur.models.backbone import Backbone

PACKAGES = ("captum",)


def cam_maps(subject: Subject, branch: int, x: Tensor) -> Tensor:
    """Compute Grad-CAM per part at a backbone's last stage (Selvaraju et al., 2017).

    Args:
        subject: the model.
        branch: number of the modality.
        x: its images `(N, C, H, W)`.

    Returns:
        Non-negative maps `(N, parts, h, w)` at the size of the last stage.

    Raises:
        DecurError: the features are not the mean of the last stage.
    """
    from captum.attr import LayerGradCam

    backbone = cast(Backbone, subject.model.backbones[branch])
    if not backbone.pools_last_map:
        raise DecurError(
            "Grad-CAM: the features are a class token, which does not depend on the last map; give "
            "weights of an `arch` whose features are the mean of its map, such as vit_s16"
        )
    with torch.no_grad():
        stage = backbone.stages(x)[-1]
    top = PartMeans(subject, branch)
    cam = LayerGradCam(top, top.map)
    stage.requires_grad_()
    maps = [
        cam.attribute(stage, target=part, relu_attributions=True)
        for part in range(len(subject.parts))
    ]
    return torch.cat(maps, dim=1).detach()


def explain(subject: Subject, recipe: GradCam) -> Explanation:
    """Write one line per map cell: sample, modality, part, y, x, value."""

    def maps_of(rows: NDArray[np.int64], views: list[Tensor]) -> list[Tensor]:
        return [cam_maps(subject, branch, view)[0].cpu() for branch, view in enumerate(views)]

    rows, frames = subject.samples(recipe.samples), []
    samples = subject.shards.index["id"].iloc[rows]
    every = subject.each([*rows[:, None]], maps_of, recipe.pixels)
    for sample, by_modality in zip(samples, every, strict=True):
        for modality, maps in zip(subject.pretrain.modalities, by_modality, strict=True):
            for part, found in zip(subject.parts, maps.numpy(), strict=True):
                y, x = np.indices(found.shape).reshape(2, -1)
                place = {"sample": sample, "modality": modality, "part": part, "y": y, "x": x}
                frames.append(pd.DataFrame({**place, "value": found.ravel()}))
    return Explanation(pd.concat(frames))
