"""List the names of the augmentation presets, which are defined in `decur.imagery.augment`."""

from typing import Annotated

from pydantic import AfterValidator

from decur.config.strict import check_known

PRESETS = ("optical", "sar", "rgb", "dem", "rgb-indoor", "hha", "image", "measured")


def _is_preset(name: str) -> str:
    return check_known(name, PRESETS, "augmentation")


PresetName = Annotated[str, AfterValidator(_is_preset)]
