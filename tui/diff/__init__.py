"""Changes between two checkpoints of a task, and restoring files from them."""
