"""Generate synthetic scenes with known factors, in the raw layout of the datasets they replace."""
