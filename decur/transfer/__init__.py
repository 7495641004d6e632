"""Transfer: measure the quality of pretrained backbones on labelled data."""
