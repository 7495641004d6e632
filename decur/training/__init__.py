"""Shared by several stages: a run's model, loss and views, prefetching, and resuming a job."""
