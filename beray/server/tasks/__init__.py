"""Execution of tasks: queue, runs, event log, limits."""
