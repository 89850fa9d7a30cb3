"""HTTP facilities of the server: errors, validation, responses and active requests."""
