"""What the scheduler loads; each file calls the batch path and holds no logic of its own."""
