"""Tables, figures, claims and the report: what the runs measured, beside the paper."""
