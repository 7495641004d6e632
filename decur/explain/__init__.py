"""Explaining a pretrained pair of backbones (paper §7, appendix D)."""
