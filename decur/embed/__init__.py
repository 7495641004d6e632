"""Features of one's own images from pretrained backbones: `decur embed`, and the same in Python.

An `Encoder` is the backbone of one modality with the scaling that it was pretrained with. Rasters
of any size are seen through windows, read a few at a time; other images whole.
"""

from decur.embed.encoder import Encoder, load_encoder
from decur.embed.rasters import Grid, embed_raster
from decur.embed.run import embed_files, embed_images

__all__ = ["Encoder", "Grid", "embed_files", "embed_images", "embed_raster", "load_encoder"]
