"""Rendering of the log: layout of rows, Markdown and colours."""
