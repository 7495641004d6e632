"""Keep the published import path of `depth_to_hha`, which is in `decur.imagery.hha`."""

from decur.imagery.hha import depth_to_hha

__all__ = ["depth_to_hha"]
