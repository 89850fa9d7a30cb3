"""Background readers and requests."""
