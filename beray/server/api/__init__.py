"""HTTP and WebSocket routes, one module per resource, and what they depend on."""
