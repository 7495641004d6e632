"""Pretraining of both backbones: the loop, its optimiser, checkpoints and log."""
