"""Event streams: SSE parsing, positions, reconnection, iterators."""
