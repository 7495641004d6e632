"""Interface to the machine and the cluster: locks, signals, SLURM and worker processes."""
