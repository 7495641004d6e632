"""Collate the explainers' results: a module per explainer, with `result`; none needs torch."""
