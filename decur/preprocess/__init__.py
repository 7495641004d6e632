"""Raw files become paired shards: the preprocess stage."""
