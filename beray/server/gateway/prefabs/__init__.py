"""The prefabs of the gateway: which there are, and calls of their functions."""
