"""Compute features of your own images with pretrained backbones: `decur embed`, or from Python.

An `Encoder` combines the backbone of one modality with the scaling of its pretraining. Rasters of
any size are split into windows and read a few at a time; other images are resized as a whole.
"""

from decur.embed.encoder import Encoder, load_encoder
from decur.embed.rasters import Grid, embed_raster
from decur.embed.run import embed_files, embed_images

__all__ = ["Encoder", "Grid", "embed_files", "embed_images", "embed_raster", "load_encoder"]
