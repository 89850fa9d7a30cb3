"""Application of the changes of a task to a local directory or git checkout."""
