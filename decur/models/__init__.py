"""Networks: backbones, projectors, the two-branch model and the transfer models."""

from decur.models.backbone import Backbone
from decur.models.backbones import build_backbone

__all__ = ["Backbone", "build_backbone"]
