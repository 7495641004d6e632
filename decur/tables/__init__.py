"""Make tables, figures, claims and the report from results, next to the paper's numbers."""
