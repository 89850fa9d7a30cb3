"""Rows of the log: layout, Markdown, colours."""
