"""Weights of backbones: read and write our files, import and export other formats."""

from decur.weights.exporting import export
from decur.weights.files import (
    branch_weights,
    fill_backbone,
    load_backbone,
    read_weights,
    save_model,
)
from decur.weights.fitting import in_bands_of
from decur.weights.importing import import_weights

__all__ = [
    "branch_weights",
    "export",
    "fill_backbone",
    "import_weights",
    "in_bands_of",
    "load_backbone",
    "read_weights",
    "save_model",
]
