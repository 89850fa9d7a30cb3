"""Execution of the code blocks of the documents."""
