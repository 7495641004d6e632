"""The backbones that a configuration may name.

This list imports nothing heavy, since Snakemake reads the configuration in every job. A test holds
it equal to what the names stand for in `decur.models`.
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


def _is_arch(name: str) -> str:
    return check_known(name, ARCHS, "backbone")


ArchName = Annotated[str, AfterValidator(_is_arch)]
