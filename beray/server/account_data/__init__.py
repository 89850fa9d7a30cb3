"""Data of an account as a whole: deletion, export and size."""
