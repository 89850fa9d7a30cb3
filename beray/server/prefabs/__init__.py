"""Prefabs: registry, manifests, and calls of their functions."""
