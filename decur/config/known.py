"""What a configuration may name: augmentations, and the known datasets.

These lists import nothing heavy, since Snakemake reads the configuration in every job. Tests hold
them equal to what the names stand for in `decur.imagery` and `decur.datasets`.
"""

from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from decur.config.strict import check_known

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


def _is_preset(name: str) -> str:
    return check_known(name, PRESETS, "augmentation")


PresetName = Annotated[str, AfterValidator(_is_preset)]
