"""Event streams: SSE parsing, stream positions, reconnection, and iterators."""
