"""Background threads: readers, requests and clients that are created on first use."""
