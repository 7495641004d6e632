"""Weights of backbones: our files, those of others, and the way in and out."""

from decur.weights.exporting import export
from decur.weights.files import (
    branch_weights,
    fill_backbone,
    load_backbone,
    read_weights,
    save_model,
)
from decur.weights.importing import import_weights

__all__ = [
    "branch_weights",
    "export",
    "fill_backbone",
    "import_weights",
    "load_backbone",
    "read_weights",
    "save_model",
]
