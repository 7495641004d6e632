"""Collate the results of explainers, without torch. Each module has a function `result`."""
