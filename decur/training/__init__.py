"""What several stages need of a pretraining run: the method's model and loss, and its views."""
