"""The published place of `depth_to_hha`, which lives in `decur.imagery.hha`."""

from decur.imagery.hha import depth_to_hha

__all__ = ["depth_to_hha"]
