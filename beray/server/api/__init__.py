"""HTTP and WebSocket routes, one module per resource, and their dependencies."""
