"""The published place of `LARS`, which lives in `decur.pretrain.optim`."""

from decur.pretrain.optim import LARS

__all__ = ["LARS"]
