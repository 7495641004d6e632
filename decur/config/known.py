"""What a configuration may name: backbones, augmentations, and the known datasets.

These lists import nothing heavy, since Snakemake reads the configuration in every job. Tests hold
them equal to what the names stand for in `decur.models`, `decur.imagery` and `decur.datasets`.
"""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from decur.config.strict import check_known


class Arch(NamedTuple):
    """A backbone: GMAC of an image of 224 pixels forward, millions of parameters, features."""

    gmac: float
    parameters: float
    features: int


# Counted by torch's FlopCounterMode.
ARCHS = {
    "tiny": Arch(0.049, 0.1, 128),
    "mit_tiny": Arch(0.075, 0.5, 128),
    "resnet18": Arch(1.81, 11.2, 512),
    "resnet50": Arch(4.09, 23.5, 2048),
    "resnet18_rda": Arch(1.91, 12.5, 512),
    "resnet50_rda": Arch(5.45, 44.5, 2048),
    "vit_s16": Arch(4.60, 21.7, 384),
    "vit_s16_token": Arch(4.60, 21.7, 384),
    "mit_b0": Arch(0.45, 3.3, 256),
    "mit_b1": Arch(1.68, 13.2, 512),
    "mit_b2": Arch(3.27, 24.2, 512),
    "mit_b3": Arch(6.14, 44.1, 512),
    "mit_b4": Arch(8.92, 60.8, 512),
    "mit_b5": Arch(11.72, 81.4, 512),
}

PRESETS = ("optical", "sar", "rgb", "dem", "rgb-indoor", "hha", "image", "measured")


class Known(NamedTuple):
    """The modalities of a known dataset, the first two stored by default, and its splits.

    Scenes in its place have the splits `train` and `evaluation`.
    """

    modalities: tuple[str, ...]
    splits: tuple[str, ...] = ("train", "test")
    evaluation: str = "test"


DATASETS = {
    "ssl4eo-s12": Known(("sar", "optical"), ("train",)),
    "bigearthnet": Known(("sar", "optical"), ("train", "val", "test", "unlisted"), "val"),
    "bigearthnet-v2": Known(("sar", "optical"), ("train", "val", "test")),
    "geonrw": Known(("rgb", "dem", "nir")),
    "sun-rgbd": Known(("rgb", "hha")),
    "nyuv2": Known(("rgb", "hha")),
    "ombria": Known(("sar", "optical")),
    "terramind": Known(("sar", "optical", "rgb", "dem")),
}
OWN_SPLITS = ("train", "test")
"""Of the folders of a user."""


def _is_arch(name: str) -> str:
    return check_known(name, ARCHS, "backbone")


def _is_preset(name: str) -> str:
    return check_known(name, PRESETS, "augmentation")


ArchName = Annotated[str, AfterValidator(_is_arch)]
PresetName = Annotated[str, AfterValidator(_is_preset)]
