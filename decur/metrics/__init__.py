"""Scores of predictions, nearest neighbours, and logistic regression."""
