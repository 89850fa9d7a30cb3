"""Prefabs: browsing, calling functions through forms, and watching runs."""
