"""What lies in the results folder: paths, records, provenance, and atomic writes."""
