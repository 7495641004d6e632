"""Explain what a pretrained pair of backbones has learned (paper §7, appendix D)."""
