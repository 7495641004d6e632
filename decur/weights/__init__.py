"""Weights of backbones: our files, those of others, and the way in and out."""

from decur.weights.files import (
    branch_weights,
    fill_backbone,
    load_backbone,
    read_weights,
    save_model,
)

__all__ = ["branch_weights", "fill_backbone", "load_backbone", "read_weights", "save_model"]
