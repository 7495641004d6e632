"""Build backbones by name, from the registry of architectures (`decur.config.architectures`)."""

from importlib import import_module

from decur.config.architectures import find_architecture
from decur.models.backbone import Backbone


def build_backbone(arch: str, in_chans: int) -> Backbone:
    """Build a freshly initialised backbone from its name in the registry.

    Raises:
        DecurError: an unknown architecture.
    """
    architecture = find_architecture(arch)
    module, name = architecture.build.split(":")
    backbone: Backbone = getattr(import_module(module), name)(
        in_chans=in_chans, **architecture.options
    )
    return backbone
