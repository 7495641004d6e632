"""Plan runs: estimate costs, decide which jobs run again, and check machines."""
