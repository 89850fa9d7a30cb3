"""History of work_dirs: checkpoints as trees of content-addressed blobs."""
