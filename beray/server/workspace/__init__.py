"""Work directories: safe paths, reads and writes, archives, watching."""
