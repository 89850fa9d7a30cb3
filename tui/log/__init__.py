"""The log of a task: its events as blocks, in a bounded window, on one view."""
