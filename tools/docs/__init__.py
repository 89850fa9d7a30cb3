"""Generators of the documentation site and of its pictures."""
