"""Files in the results folder: paths, records, provenance, ownership and atomic writes."""
