"""Scores of predictions, and nearest neighbours."""
