"""What the explainers found, collated: a module each, with `result`; none of them needs torch."""
