"""What a run would cost, what would run again, and whether this machine can run it."""
