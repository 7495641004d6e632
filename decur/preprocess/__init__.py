"""Run the preprocess stage: convert raw files to paired shards."""
