"""Shared by several stages: a run's model, loss and views; prefetching; resuming a job."""
