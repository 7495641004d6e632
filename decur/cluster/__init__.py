"""What a process asks of the machine and cluster it runs on: locks, signals, SLURM, workers."""
