"""Networks: backbones, projectors, the two-branch model and the transfer heads."""

from decur.models.backbones import Backbone, build_backbone

__all__ = ["Backbone", "build_backbone"]
