"""Pretraining losses, one module a method: two branches' embeddings in, named terms out."""
