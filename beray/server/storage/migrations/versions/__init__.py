"""Revisions of the database schema, oldest first."""
