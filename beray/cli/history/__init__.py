"""Output of the history of a work_dir, and the source of applied changes."""
