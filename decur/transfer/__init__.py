"""Transfer: what a pretrained backbone is worth, measured on labelled data."""
