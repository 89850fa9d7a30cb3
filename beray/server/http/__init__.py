"""HTTP support without routes: errors, middleware, strict input, client addresses."""
